// Experts that are mixed by their parameters instead of their results: one = sum over e of p_e theta_e, which
// is then an expert like any other.
#pragma once

#include <concepts>

#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/expert/concept.hpp"

MOE_NAMESPACE_BEGIN

/// What a bank needs to be merged. `p` are the weights [H, E] of a mixture: the parameters come in heads()
/// groups, each with weights of its own (most banks: one group).
///   Merged                                      one expert, or the gradient of one, in memory of the call
///   take_merged(arena)                          takes that memory, nothing is in it yet
///   merge(p, one, arena, executor)              one = sum of p_e theta_e, e ascending; an expert whose p is
///   0
///                                               is not read
///   open_tape(tape, rows, draws)                room for the rows of all mixtures of a call; draws: null
///                                               unless it trains
///   forward_merged(one, batch, sink, tape, first, arena, executor)   a batch of 1 expert, whose rows are
///   rows
///                                               `first` and on of the tape; null: without a tape
///   backward_merged(one, batch, tape, first, rows, done, arena, executor)   as an ExpertBank's; done = the
///                                               gradient of `one`, overwritten
///   merge_backward(p, done, dp, gradients, arena, executor)   dp [H, E] = <done, theta_e>, and gradients +=
///                                               p_e done (unless null)
///   measure_merge, measure_merge_backward(arena, concurrency), measure_merged,
///   measure_merged_backward(arena,
///                                               rows, concurrency)   what these take
/// All sums go in an order that no executor changes.
template <class B>
concept MergingBank = std::move_constructible<B> && std::default_initializable<typename B::Tape> &&
    requires(const B& bank, const typename B::Real* p, typename B::Real* dp, const typename B::Merged& one,
             const RowBatch<typename B::Real>& batch, const RowSink<typename B::Real>& sink,
             const RowGradients<typename B::Real>& rows, typename B::Tape& tape,
             typename B::Gradients* gradients, const RowDraws* draws, Arena& arena,
             SerialExecutor& executor) {
  { bank.experts() } -> std::convertible_to<Index>;
  { bank.heads() } -> std::convertible_to<Index>;
  { bank.width() } -> std::convertible_to<Index>;
  { bank.take_merged(arena) } -> std::same_as<typename B::Merged>;
  bank.merge(p, one, arena, executor);
  bank.open_tape(tape, Index{}, draws);
  bank.forward_merged(one, batch, sink, &tape, Index{}, arena, executor);
  bank.backward_merged(one, batch, tape, Index{}, rows, one, arena, executor);
  bank.merge_backward(p, one, dp, gradients, arena, executor);
  bank.measure_merge(arena, Index{});
  bank.measure_merge_backward(arena, Index{});
  bank.measure_merged(arena, Index{}, Index{});
  bank.measure_merged_backward(arena, Index{}, Index{});
};

MOE_NAMESPACE_END
