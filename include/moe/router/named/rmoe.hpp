// Layerwise recurrent router: routers of all layers share a GRU that runs over depth, so that a layer knows
// what the layers before it chose. RMoE, Qiu et al. 2408.06793.
#pragma once

#include <utility>

#include "moe/router/balance/load_balance.hpp"
#include "moe/router/balance/z.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/gru.hpp"
#include "moe/router/scorer/gru_cell.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct RmoeOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index k = 2;
  double load_balance = 0.01;  // coefficient, see router/balance/load_balance.hpp
  double z_loss = 0;           // coefficient, see router/balance/z.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// softmax over all experts, the k best, their probabilities over their sum. Hands the GRU's state on.
template <class Real, class Cell = GruCell<Real>&>
using RmoeRouter = TokenChoice<GruScorer<Real, Cell>, Softmax, TopKSelection, GatherWeighting,
                               Balancing<LoadBalance, ZLoss>>;

namespace impl {
template <class Real, class Cell>
RmoeRouter<Real, Cell> rmoe_router(Cell&& cell, const RmoeOptions& options) {
  return {
      GruScorer<Real, Cell>({.width = options.width, .outputs = options.experts}, std::forward<Cell>(cell)),
      Softmax{},
      TopKSelection(options.k),
      GatherWeighting({.normalise = Normalise::sum}),
      Balancing<LoadBalance, ZLoss>(LoadBalance({.coefficient = options.load_balance}),
                                    ZLoss(options.z_loss)),
      options.non_finite};
}
}  // namespace impl

/// `cell`: of all layers; it must outlive the routers (see GruScorer for its gradients). The paper's state
/// has 128 numbers, as many as its inputs. Throws config_error for sizes or a k that do not fit.
template <class Real>
RmoeRouter<Real> rmoe_router(GruCell<Real>& cell, const RmoeOptions& options) {
  return impl::rmoe_router<Real, GruCell<Real>&>(cell, options);
}
/// With a cell of its own: for one layer that is run again and again, or alone.
template <class Real>
RmoeRouter<Real, GruCell<Real>> rmoe_router(GruCell<Real>&& cell, const RmoeOptions& options) {
  return impl::rmoe_router<Real, GruCell<Real>>(std::move(cell), options);
}

MOE_NAMESPACE_END
