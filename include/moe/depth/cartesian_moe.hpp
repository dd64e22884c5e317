// CartesianMoE, 2410.16077: two sub-layers of N_a and N_b experts in a row, so that a token's experts are
// pairs (i, j), B_j after A_i, of which there are N_a N_b.
#pragma once

#include <tuple>
#include <utility>

#include "moe/depth/chain.hpp"
#include "moe/depth/normed_layer.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/top_k.hpp"

MOE_NAMESPACE_BEGIN

/// h = x + A(x), y = h + B(h).
template <class A, class B = A>
using CartesianMoe =
    Chain<MoeLayer<SoftmaxTopK<typename A::Real>, A>, MoeLayer<SoftmaxTopK<typename B::Real>, B>>;

/// The paper's: y = h + B(rms_norm(h)), with a trained scale. A norm in front of A is the caller's.
template <class A, class B = A>
using NormedCartesianMoe = Chain<MoeLayer<SoftmaxTopK<typename A::Real>, A>,
                                 NormedLayer<MoeLayer<SoftmaxTopK<typename B::Real>, B>>>;

/// Of each sub-layer's router; experts: N_a and N_b. Every sub-layer has its own balance loss.
struct CartesianMoeOptions {
  TopKOptions first{}, second{};
  double eps = 1e-6;  // of the norm, where there is one
};

/// Throws config_error for routers that do not fit their banks, and banks of different widths.
template <class A, class B>
CartesianMoe<A, B> cartesian_moe(const CartesianMoeOptions& options, A first, B second) {
  using Real = typename A::Real;
  return CartesianMoe<A, B>(
      std::tuple(MoeLayer<SoftmaxTopK<Real>, A>(softmax_top_k<Real>(options.first), std::move(first)),
                 MoeLayer<SoftmaxTopK<Real>, B>(softmax_top_k<Real>(options.second), std::move(second))),
      Residual::inner);
}
/// Likewise.
template <class A, class B>
NormedCartesianMoe<A, B> normed_cartesian_moe(const CartesianMoeOptions& options, A first, B second) {
  using Real = typename A::Real;
  using Last = MoeLayer<SoftmaxTopK<Real>, B>;
  return NormedCartesianMoe<A, B>(
      std::tuple(
          MoeLayer<SoftmaxTopK<Real>, A>(softmax_top_k<Real>(options.first), std::move(first)),
          NormedLayer<Last>(Last(softmax_top_k<Real>(options.second), std::move(second)), options.eps)),
      Residual::inner);
}

MOE_NAMESPACE_END
