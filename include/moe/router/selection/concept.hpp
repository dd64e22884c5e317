// Selections of token-choice routers: choice scores of one row -> expert ids, first choice first. Ties go to
// the lower id; an output whose choice score is -inf is masked and never chosen.
#pragma once

#include <concepts>
#include <limits>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/call_options.hpp"
#include "moe/router/row_context.hpp"

MOE_NAMESPACE_BEGIN

/// `most(options, n)`: bound on choices per row for the options of a call; throws config_error for options
/// that it cannot obey (impl::refuse_option). `select(row, choice, out)` may overwrite `choice`, the scores
/// with the selection bias, and returns how many ids it wrote. May have: kName, check(outputs),
/// check_call(call), coupling(training), state, parameters (LearningSelection), and a probability of what it
/// draws (SampledSelection).
template <class S>
concept Selection = std::copy_constructible<S> && requires(const S& s, const RowContext<impl::RealOf<S>>& row,
                                                           impl::RealOf<S>* choice, Index n, ExpertId* out) {
  { s.most(CallOptions{}, n) } -> std::same_as<Index>;
  { s.select(row, choice, out) }
  noexcept->std::same_as<Index>;
};

/// What a selection over a set of rows sees: all rows of the call, segment by segment its own affair.
template <class Real>
struct SetCall {
  const RouterInput<Real>& call;
  MatrixView<Real> choice;       // [T, N] scores with the selection bias; -inf masked; may be overwritten
  ConstMatrixView<Real> logit;   // [T, N]
  ConstMatrixView<Real> score;   // [T, N]
  const bool* active = nullptr;  // [T] rows that take part
  MatrixView<Real> plan{};       // [T, N] of a PlanningSelection whose weights are its plan's, else empty
  double* kept = nullptr;        // [kept(T, N)] of such a one, which its backward gets
};

/// A selection that looks at several rows at once: experts that choose their tokens, assignments.
/// `max_pairs(shape, n)` bounds the choices of a call; `select_set` writes the chosen ids of row t to chosen
/// + t * N, first choice first, and their number to count[t]; rows that take no part get none.
/// coupling(training) says how far it looks: contract C2 keeps it within the segments of the call unless that
/// is per_batch. `measure` takes from the arena what select_set takes.
template <class S>
concept SetSelection = std::copy_constructible<S> &&
    requires(const S& s, const SetCall<impl::RealOf<S>>& call, const CallShape& shape, Index n,
             ExpertId* chosen, Index* count, Arena& arena, SerialExecutor& executor) {
  { S::coupling(true) } -> std::same_as<Coupling>;
  { s.max_pairs(shape, n) } -> std::convertible_to<Index>;
  s.measure(arena, n, n);  // tokens, outputs
  s.select_set(call, chosen, count, arena, executor);
};

/// A selection over a set whose own numbers may be weights. If `plans()`, a training call (with `static
/// constexpr bool kPlansInInference = true` any call) gives it `set.plan`, which it fills for the rows that
/// take part and the weighting reads in place of the scores, and room for `kept(T, N)` numbers.
/// `plan_backward(set, dplan, dscore, dlogit, arena, executor)`, with logits, scores, active, plan and kept
/// as they were, adds the gradient of the plan to that of scores or logits; dplan may be overwritten.
/// `measure_backward` takes from the arena what plan_backward takes.
template <class S, class Real>
concept PlanningSelection = SetSelection<S> &&
    requires(const S& s, const SetCall<Real>& set, const MatrixView<Real>& d, Index n, Arena& arena,
             SerialExecutor& executor) {
  { s.plans() } -> std::same_as<bool>;
  { s.kept(n, n) } -> std::convertible_to<Index>;  // tokens, outputs
  s.measure_backward(arena, n, n);
  s.plan_backward(set, d, d, d, arena, executor);
};

/// A selection of either kind with parameters (a trained threshold): Gradients, make_gradients,
/// visit_parameters, visit_storage as of a scorer, and `add_gradients(row, chosen, dweight, gradients)`,
/// called for the rows that take part, ascending (contract C3). A choice has no derivative: what is added is
/// the part's own estimator, of the gradients of the row's combine weights, 0 for those that its weighting
/// does not keep.
template <class S, class Real>
concept LearningSelection = requires(const S& s, const RowContext<Real>& row, const Chosen& chosen,
                                     const Real* dweight, impl::GradientsOf<S>& gradients) {
  s.add_gradients(row, chosen, dweight, gradients);
};

/// A selection of a row that draws its choices in training: `log_probability(row, chosen)` is ln Q, of the
/// choices in their order, and `log_probability_backward(row, chosen, advantage, dlogit)` adds advantage *
/// d ln Q / d logit to dlogit [N]. That is the estimator of a score function (REINFORCE), exact in its mean:
/// sum over choices of Q cost grad ln Q = grad of the mean cost, whatever baseline is taken from the cost.
/// May have `samples()`, false for one that draws nothing as it was built.
template <class S, class Real>
concept SampledSelection = requires(const S& s, const RowContext<Real>& row, const Chosen& chosen,
                                    Real* dlogit) {
  { s.log_probability(row, chosen) } -> std::same_as<double>;
  s.log_probability_backward(row, chosen, 1.0, dlogit);
};

namespace impl {

/// Whether a selection's choices in training have a log probability.
template <class Real, class S>
bool samples(const S& selection) noexcept {
  if constexpr (!SampledSelection<S, Real>) {
    return false;
  } else if constexpr (requires { selection.samples(); }) {
    return selection.samples();
  } else {
    return true;
  }
}

template <class Real>
inline constexpr Real kMasked = -std::numeric_limits<Real>::infinity();

/// The chosen ids without the masked ones, which come last.
template <class Real>
Index without_masked(const Real* choice, const ExpertId* chosen, Index count) noexcept {
  while (count > 0 && is_neg_inf(choice[chosen[count - 1]])) --count;
  return count;
}

/// K of a call that may say its own: throws config_error unless it lies in [1, n].
inline Index experts_per_token(Index built, const CallOptions& options, Index n, const char* of) {
  const Index k = options.experts_per_token == 0 ? built : options.experts_per_token;
  if (k < 1 || k > n) {
    fail<config_error>("experts per token: expected K in [1, ", n, "] (", of, "), got ", k);
  }
  return k;
}

}  // namespace impl

MOE_NAMESPACE_END
