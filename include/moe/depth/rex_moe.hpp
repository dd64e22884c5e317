// ReXMoE, 2510.17483: a group of adjacent layers lends each other its experts. Every layer has a router of
// its own over the experts of all of them, of which it sees more and more as training goes on.
#pragma once

#include <limits>
#include <utility>
#include <vector>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/depth/shared_parts.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/top_k.hpp"
#include "moe/router/schedule.hpp"

MOE_NAMESPACE_BEGIN

/// A group's layers, over the caller's pool of r N experts: those of layer l are l N .. (l + 1) N - 1. Norms
/// before a layer are the caller's, each layer's own.
template <class Bank>
using RexMoe = SharedParts<MoeLayer<SoftmaxTopK<typename Bank::Real>, Bank&>>;

struct RexMoeOptions {
  Index group = 2;       // r: layers, and slices of the pool
  TopKOptions router{};  // of every layer; experts: N, a layer's share of the pool
};

/// With a group of 1 its layer is a MoeLayer over a bank of its own. The balance loss is over the experts
/// that the call's mask leaves open. Throws config_error for a group below 1 and routers that do not fit the
/// pool.
template <class Bank>
RexMoe<Bank> rex_moe(const RexMoeOptions& options, Bank& pool) {
  require_range("group", options.group, 1, INT32_MAX);
  using Real = typename Bank::Real;
  TopKOptions own = options.router;
  own.experts = checked_product("experts of the pool", options.group, options.router.experts);
  std::vector<MoeLayer<SoftmaxTopK<Real>, Bank&>> layers;
  for (Index l = 0; l < options.group; ++l) {
    SoftmaxTopK<Real> router(
        LinearScorer<Real>(own.scorer()), Softmax{}, TopKSelection(own.k), GatherWeighting(own.weights),
        Balancing<LoadBalance, ZLoss>(LoadBalance({.coefficient = own.load_balance, .open_only = true}),
                                      ZLoss(own.z_loss)),
        own.non_finite);
    layers.emplace_back(std::move(router), pool);
  }
  return RexMoe<Bank>(std::move(layers));
}

struct ProgressivePoolOptions {
  Index group = 2;    // r
  Index experts = 0;  // N, of one layer
  Index steps = 1;    // until a layer sees the whole pool
};

/// Progressive scaling routing: which experts of the pool a layer sees at a step of training. Their number
/// grows linearly from N to r N, rounded; the layer's own are the first, then those of the layers after it,
/// cyclically, each in ascending order. In inference a layer sees all, as after the last step.
template <class Real>
class ProgressivePool {
 public:
  using Options = ProgressivePoolOptions;
  /// Throws config_error for numbers below 1.
  explicit ProgressivePool(const Options& options)
      : options_(checked(options)),
        candidates_({.from = static_cast<double>(options.experts),
                     .to = static_cast<double>(options.group * options.experts),
                     .steps = options.steps}),
        mask_(options.group * options.group * options.experts) {}

  /// Experts that a layer sees at a step >= 0.
  Index candidates(Index step) const { return rounded_at(candidates_, step); }

  /// The column logit_mask [1, r N] of the layer's calls of that step: it is added before the softmax. Valid
  /// until the same layer's next one. Throws config_error for a layer or step that is not there.
  ConstMatrixView<Real> mask(Index layer, Index step) {
    require_range("layer", layer, 0, options_.group - 1);
    const Index all = options_.group * options_.experts, seen = candidates(step);
    Real* const row = mask_.data() + layer * all;
    for (Index i = 0; i < all; ++i) {
      row[(layer * options_.experts + i) % all] = i < seen ? Real{0} : -std::numeric_limits<Real>::infinity();
    }
    return {row, 1, all};
  }

 private:
  static const Options& checked(const Options& options) {
    require_range("group", options.group, 1, INT32_MAX);
    require_range("experts", options.experts, 1, INT32_MAX);
    require_range("steps", options.steps, 1, PTRDIFF_MAX);
    checked_product("progressive pool", options.group, options.group, options.experts, Index{sizeof(Real)});
    return options;
  }

  Options options_;
  LinearSchedule candidates_;
  Buffer<Real> mask_;  // [r, r N]
};

MOE_NAMESPACE_END
