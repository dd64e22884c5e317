// Several hops by one geometric router: a row goes to its nearest centroids, and from where their experts
// took it to the nearest there. "Equifinality in Mixture of Experts", 2604.14419 (which calls it ST-MoE).
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/depth/chain.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/cosine_top_k.hpp"

MOE_NAMESPACE_BEGIN

/// Hops refer to the caller's router and bank, which must outlive them, and whose gradients are one object.
template <class Bank>
using GeometricHops = Chain<MoeLayer<CosineTopK<typename Bank::Real>&, Bank&>>;

struct GeometricHopsOptions {
  Index hops = 2;
  double halt = 0;  // in inference a row stops where a hop added less than this part of its length; 0: never
};

/// h_0 = x, h_i = h_{i-1} + sum over the router's choices for h_{i-1} of w_e f_e(h_{i-1}), y = h_hops.
/// `router` is cosine_top_k of CosineForm::geometric. Throws config_error for hops below 1, a halt below 0 or
/// not finite, and a router that does not fit the bank.
template <class Bank>
GeometricHops<Bank> geometric_hops(const GeometricHopsOptions& options,
                                   CosineTopK<typename Bank::Real>& router, Bank& bank) {
  require_range("hops", options.hops, 1, INT32_MAX);
  std::vector<MoeLayer<CosineTopK<typename Bank::Real>&, Bank&>> hops;
  for (Index i = 0; i < options.hops; ++i) hops.emplace_back(router, bank);
  return GeometricHops<Bank>(std::move(hops), Residual::inner, options.halt);
}

MOE_NAMESPACE_END
