// Weightings of token-choice routers: the scores of the chosen experts -> combine weights. Always the
// unbiased scores: what a selection bias moved does not show in a weight.
#pragma once

#include <concepts>

#include "moe/core/executor.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/router/row_context.hpp"
#include "moe/router/selection/concept.hpp"

MOE_NAMESPACE_BEGIN

/// `forward`: weight[i] and keep[i] for every choice; one that is not kept is routed nowhere. `backward`:
/// dweight[i] (0 where not kept; may be overwritten) to dscore[id] +=. May have: kName, `experts(outputs)`,
/// how many of the router's outputs are real experts (all of them where it is missing), check(outputs),
/// check_call(call), coupling(training), state, and parameters (LearningWeighting).
template <class W>
concept Weighting = std::copy_constructible<W> &&
    requires(const W& w, const RowContext<impl::RealOf<W>>& row, const Chosen& chosen, impl::RealOf<W>* out,
             bool* keep) {
  { w.forward(row, chosen, out, keep) }
  noexcept;  // weight, keep
  { w.backward(row, chosen, out, out) }
  noexcept;  // dweight, dscore +=
};

/// The chosen experts of all rows.
struct ChosenSet {
  const ExpertId* id = nullptr;  // [T, most] of row t the first count[t], first choice first
  const Index* count = nullptr;  // [T]
  Index most = 0;

  Chosen of(Index t) const noexcept { return {id + t * most, count[t]}; }
};

/// A weighting over a set of rows, behind a set selection: shares among the rows that an expert took, entries
/// of a plan. `set_weights`: weight[t * most + i] and keep for every choice of every row, as `forward`; its
/// `set.choice` is as the selection left it. `set_weights_backward`: dweight (0 where not kept; may be
/// overwritten) to dscore += [T, N]; there `set.choice` is empty. coupling(training) says how far it looks;
/// `measure(arena, tokens, outputs)` takes what either takes. May have what a Weighting may have.
template <class W>
concept SetWeighting = std::copy_constructible<W> &&
    requires(const W& w, const SetCall<impl::RealOf<W>>& set, const ChosenSet& chosen, impl::RealOf<W>* out,
             bool* keep, const MatrixView<impl::RealOf<W>>& dscore, Arena& arena, SerialExecutor& executor) {
  { W::coupling(true) } -> std::same_as<Coupling>;
  w.measure(arena, Index{}, Index{});  // tokens, outputs
  w.set_weights(set, chosen, out, keep, arena, executor);
  w.set_weights_backward(set, chosen, out, dscore, arena, executor);
};

/// Room for the weights of one row's choices, for who has to form them again.
template <class Real>
struct WeightScratch {
  Real* weight = nullptr;   // [M]
  bool* keep = nullptr;     // [M]
  Real* dweight = nullptr;  // [M] for a wrapper: what its inner weighting gets
};

/// A weighting with parameters: Gradients, make_gradients, visit_parameters, visit_storage as of a scorer,
/// and `add_gradients(row, chosen, dweight, scratch, gradients)`, called before `backward` for the rows that
/// take part, ascending (contract C3).
template <class W, class Real>
concept LearningWeighting = requires(const W& w, const RowContext<Real>& row, const Chosen& chosen,
                                     const Real* dweight, const WeightScratch<Real>& scratch,
                                     impl::GradientsOf<W>& gradients) {
  w.add_gradients(row, chosen, dweight, scratch, gradients);
};

namespace impl {

template <class W>
Index experts_of(const W& weighting, Index outputs) noexcept {
  if constexpr (requires { weighting.experts(outputs); }) {
    return weighting.experts(outputs);
  } else {
    return outputs;
  }
}

}  // namespace impl

MOE_NAMESPACE_END
