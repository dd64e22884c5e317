// A layer whose lower choices are compressed: of K experts the first few run, each of the others is a vector.
// He et al. 2503.00634.
#pragma once

#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/compressed.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/kind/split_ranks.hpp"
#include "moe/router/named/top_k.hpp"

MOE_NAMESPACE_BEGIN

struct CompressedMoeOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index hidden = 0;   // F
  Index k = 2;        // choices
  Index k_main = 1;   // of which that many run as they are
  bool bias = false;
  NonFinite non_finite = NonFinite::throw_;
};

/// y = sum over the first k_main choices of w_e f_e(x) + sum over the others of w_e (c_e * x): the additive
/// form, which is a weighted sum. Weights are those of all K choices together.
template <class Real>
using CompressedMoe =
    MoeLayer<SplitRanks<SoftmaxTopK<Real>>, Composite<Glu<Silu, Real>, CompressedExperts<Real>>>;

/// Zero weights; with vectors of 0 the main experts alone. Throws config_error for what is out of range.
template <class Real>
CompressedMoe<Real> compressed_experts(const CompressedMoeOptions& options) {
  require_range("main experts per token", options.k_main, 0, options.k);
  return {SplitRanks<SoftmaxTopK<Real>>(softmax_top_k<Real>({.width = options.width,
                                                             .experts = options.experts,
                                                             .k = options.k,
                                                             .non_finite = options.non_finite}),
                                        options.k_main),
          Composite(Glu<Silu, Real>({.experts = options.experts,
                                     .width = options.width,
                                     .hidden = options.hidden,
                                     .bias = options.bias}),
                    CompressedExperts<Real>({.experts = options.experts, .width = options.width}))};
}

MOE_NAMESPACE_END
