// Experts behind one shared map into a latent space. Mixture of latent experts (MoLAE, in its first version
// MoLE), Liu et al. 2503.23100.
#pragma once

#include <utility>

#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/latent.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/top_k.hpp"

MOE_NAMESPACE_BEGIN

struct MoleLatentOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index latent = 0;   // r: columns that the experts read
  Index hidden = 0;   // F
  Index k = 2;
  bool bias = false;  // of the experts
  NonFinite non_finite = NonFinite::throw_;
};

/// Gate and up of every expert read A x, down is the expert's own: the second layers stay as they are. With a
/// shared map behind the experts too it is a LatentFrame around experts of r columns.
template <class Real>
using MoleLatent = MoeLayer<SoftmaxTopK<Real>, LatentBank<Glu<Silu, Real>>>;

/// Zero weights; factor_experts() fills the bank from experts of D columns. Throws config_error for what is
/// out of range.
template <class Real>
MoleLatent<Real> mole_latent(const MoleLatentOptions& options) {
  Glu<Silu, Real> inner({.experts = options.experts,
                         .width = options.latent,
                         .hidden = options.hidden,
                         .bias = options.bias,
                         .output = options.width});
  return {softmax_top_k<Real>({.width = options.width,
                               .experts = options.experts,
                               .k = options.k,
                               .non_finite = options.non_finite}),
          LatentBank<Glu<Silu, Real>>(options.width, std::move(inner))};
}

MOE_NAMESPACE_END
