// Weightings of token-choice routers: the scores of the chosen experts -> combine weights. Always the
// unbiased scores: what a selection bias moved does not show in a weight.
#pragma once

#include <concepts>

#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

/// The chosen experts of one token.
struct Chosen {
  const ExpertId* id = nullptr;  // [count] first choice first
  Index count = 0;
  double draw = 0;  // in (0, 1), keyed by the token; for random weightings in training
  bool training = false;
};

/// `forward`: weight[i] and keep[i] for every choice; one that is not kept is routed nowhere. `backward`:
/// dweight[i] (0 where not kept; may be overwritten) to dscore[id] +=. `experts(outputs)`: how many of the
/// router's outputs are real experts.
template <class W>
concept Weighting = std::copy_constructible<W> &&
    requires(const W& w, const Chosen& chosen, const double* in, double* out, bool* keep, Index n) {
  { w.experts(n) } -> std::same_as<Index>;
  { w.forward(chosen, in, out, keep) }
  noexcept;  // score, weight, keep
  { w.backward(chosen, in, out, out) }
  noexcept;  // score, dweight, dscore +=
};

MOE_NAMESPACE_END
