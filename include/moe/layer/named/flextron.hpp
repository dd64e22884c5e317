// A feed-forward layer whose width each token chooses. Flextron, Cai et al. 2406.10260.
#pragma once

#include <cstdint>
#include <span>

#include "moe/expert/bank/nested.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/flextron.hpp"

MOE_NAMESPACE_BEGIN

struct FlextronOptions {
  Index width = 0;                  // D
  std::span<const Index> widths{};  // hidden units of each sub-network, see NestedOptions
  bool bias = false;
  Index router_hidden = 64;
  double noise = 1;  // see FlextronRouterOptions
  NonFinite non_finite = NonFinite::throw_;
};

template <class Real>
using Flextron = MoeLayer<FlextronRouter<Real>, NestedGlu<Silu, Real>>;

/// Zero weights; nest_expert() fills the bank from a dense layer. Throws config_error for what is out of
/// range.
template <class Real>
Flextron<Real> flextron(const FlextronOptions& options) {
  NestedGlu<Silu, Real> bank({.width = options.width, .widths = options.widths, .bias = options.bias});
  return {flextron_router<Real>({.width = options.width,
                                 .experts = bank.experts(),
                                 .hidden = options.router_hidden,
                                 .noise = options.noise,
                                 .non_finite = options.non_finite}),
          std::move(bank)};
}

MOE_NAMESPACE_END
