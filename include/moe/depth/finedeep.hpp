// Finedeep, 2502.12928: a dense feed-forward layer cut into M sub-layers of K experts, all of which run, each
// weighed by what it made.
#pragma once

#include <utility>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/depth/chain.hpp"
#include "moe/depth/normed_layer.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/whole_results.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/probe/probing_layer.hpp"
#include "moe/router/kind/response.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/sigmoid.hpp"
#include "moe/router/scorer/rows.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct FinedeepOptions {
  Index width = 0;    // D
  Index hidden = 0;   // F of the dense layer, a multiple of M K
  Index layers = 2;   // M
  Index experts = 4;  // K of a sub-layer
  double eps = 1e-6;  // of the norms
  GatherWeighting::Options weights{};
  NonFinite non_finite = NonFinite::throw_;
};

/// h_m = h_{m-1} + sum over k of r_k z_k, z_k = E_k(rms_norm(h_{m-1})), r_k = sigmoid(<v_k, z_k>), y = h_M:
/// norms and residual connections are the layer's own. Weights are not normalised. Row-wise, so causal.
template <class Real, class Act = Silu>
using Finedeep = Chain<NormedLayer<ProbingLayer<
    ResponseRouter<TokenChoice<RowScorer<Real>, SigmoidScore, TopKSelection, GatherWeighting, Balancing<>>>,
    WholeResults<Glu<Act, Real>, DotResponse<Real>>>>>;

/// The experts' matrices have the dense layer's number of parameters; v [K, D] and the norm's scale come with
/// every sub-layer. With v = 0, as at first, all weigh 1 / 2. Throws config_error for sizes that do not fit.
template <class Real, class Act = Silu>
Finedeep<Real, Act> finedeep(const FinedeepOptions& options) {
  using Choice = TokenChoice<RowScorer<Real>, SigmoidScore, TopKSelection, GatherWeighting, Balancing<>>;
  using Bank = WholeResults<Glu<Act, Real>, DotResponse<Real>>;
  using Sub = ProbingLayer<ResponseRouter<Choice>, Bank>;
  require_range("sub-layers", options.layers, 1, INT32_MAX);
  require_range("experts", options.experts, 1, INT32_MAX);
  const Index pieces = checked_product("sub-layers x experts", options.layers, options.experts);
  if (options.hidden < 1 || options.hidden % pieces != 0) {
    fail<config_error>("hidden: expected a multiple of ", pieces, " (sub-layers x experts), got ",
                       options.hidden);
  }
  std::vector<NormedLayer<Sub>> layers;
  for (Index m = 0; m < options.layers; ++m) {
    Glu<Act, Real> experts({options.experts, options.width, options.hidden / pieces});
    DotResponse<Real> response(options.experts, options.width);
    layers.emplace_back(
        Sub(ResponseRouter<Choice>(Choice{RowScorer<Real>(options.experts), SigmoidScore{},
                                          TopKSelection(options.experts), GatherWeighting(options.weights),
                                          Balancing<>{}, options.non_finite}),
            Bank(std::move(experts), std::move(response))),
        options.eps);
  }
  return Finedeep<Real, Act>(std::move(layers), Residual::inner);
}

MOE_NAMESPACE_END
