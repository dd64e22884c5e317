// Omni-router, 2507.05724: the layers of a model have experts of their own and one router between them.
#pragma once

#include <utility>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/depth/shared_parts.hpp"
#include "moe/layer/moe_layer.hpp"

MOE_NAMESPACE_BEGIN

/// A router of any kind; the paper's is a SwitchRouter.
template <class R, class Bank>
using OmniRouter = SharedParts<MoeLayer<R&, Bank>>;

/// One layer for each bank, all over the caller's router, which must outlive them. Its weights see every
/// layer's rows, so all are of one width: throws config_error for banks of another width or number of experts
/// than the router's, and for none.
template <class R, class Bank>
OmniRouter<R, Bank> omni_router(R& router, std::vector<Bank> banks) {
  std::vector<MoeLayer<R&, Bank>> layers;
  for (Bank& bank : banks) {
    if (Index{router.width()} != 0 && Index{bank.width()} != Index{router.width()}) {
      fail<config_error>("omni router: expected banks of the router's width ", Index{router.width()},
                         ", got ", Index{bank.width()});
    }
    layers.emplace_back(router, std::move(bank));
  }
  return OmniRouter<R, Bank>(std::move(layers));
}

MOE_NAMESPACE_END
