// Routers of parameters: which mixture of experts a segment of rows gets. MergingLayer
// (layer/soft/merging_layer.hpp) merges it, once for the whole segment.
#pragma once

#include <concepts>

#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"

MOE_NAMESPACE_BEGIN

/// `p` [S, H * E], S the segments of the call: row s are the weights of segment s, head after head. A row of
/// a segment that has no row that takes part holds anything finite, and nobody reads it. `spoiled` [T] are
/// the rows isolated for numbers that are not finite, false at first.
///
/// `mix` may be refused before it has written more than its tape. `backward` gets dp as p, of segments
/// without rows 0, which it may overwrite, and adds to dx (which may be absent) and to the gradients (null:
/// frozen). May have: check_call(in), and what core/part_traits.hpp lists.
template <class M>
concept Mixer = std::move_constructible<M> && std::default_initializable<typename M::Tape> &&
    requires(const M& mixer, const RouterInput<typename M::Real>& in, const MatrixView<typename M::Real>& p,
             bool* spoiled, typename M::Tape* tape, const typename M::Tape& taped,
             typename M::Gradients* gradients, const CallShape& shape, Arena& arena,
             SerialExecutor& executor) {
  { M::coupling(true) } -> std::same_as<Coupling>;
  { mixer.experts() } -> std::convertible_to<Index>;
  { mixer.heads() } -> std::convertible_to<Index>;
  { mixer.width() } -> std::convertible_to<Index>;  // of the rows it reads; 0: none
  mixer.measure(arena, shape, Index{});
  mixer.measure_backward(arena, shape, Index{});
  mixer.mix(in, p, spoiled, tape, arena, executor);
  mixer.backward(in, p, taped, p, p, gradients, arena, executor);
  { mixer.make_gradients() } -> std::same_as<typename M::Gradients>;
};

MOE_NAMESPACE_END
