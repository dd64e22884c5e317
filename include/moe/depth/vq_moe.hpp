// VQMoE, Do et al. 2411.19402: a routed path and a path by codes, over the same experts.
#pragma once

#include <tuple>
#include <utility>

#include "moe/depth/gated_paths.hpp"
#include "moe/depth/parallel.hpp"
#include "moe/layer/frame/quantised.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/shared/none.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/router/kind/codebook.hpp"

MOE_NAMESPACE_BEGIN

struct VqMoeOptions {
  double contribution = 0.05;  // c, see QuantisedFrame
  double eps = 1e-5;           // of its norm
};

/// LN(f_e(LN(xq))), e the expert of x's code: what is fine-tuned, without the routed path.
template <class Bank>
using VqPath = MoeLayer<CodebookRouter<typename Bank::Real>&, Bank&, Dropless, NoShared,
                        QuantisedFrame<typename Bank::Real>>;

template <class R, class Bank>
using VqMoe = GatedPaths<Parallel<MoeLayer<R, Bank&>, VqPath<Bank>>>;

/// `codebook` and `experts` are the caller's, who also collects the codebook's rows and ends its steps.
/// Throws config_error for what is out of range, widths and numbers of experts that do not fit.
template <class Bank>
VqPath<Bank> vq_path(const VqMoeOptions& options, CodebookRouter<typename Bank::Real>& codebook,
                     Bank& experts) {
  return {codebook, experts, Dropless{}, NoShared{},
          QuantisedFrame<typename Bank::Real>(codebook, options.contribution, options.eps)};
}

/// y = a_0 (sum over the router's choices of w_e f_e(x)) + a_1 LN(f_e'(LN(xq))), a = softmax(W x + b). The
/// experts' gradients are one object, the routed path's, to which that path adds first. Throws as vq_path.
template <class R, class Bank>
VqMoe<R, Bank> vq_moe(const VqMoeOptions& options, CodebookRouter<typename Bank::Real>& codebook, R router,
                      Bank& experts) {
  using Routed = MoeLayer<R, Bank&>;
  using Paths = Parallel<Routed, VqPath<Bank>>;
  return VqMoe<R, Bank>(Paths(std::tuple<Routed, VqPath<Bank>>(Routed(std::move(router), experts),
                                                               vq_path(options, codebook, experts)),
                              Join::concatenate));
}

MOE_NAMESPACE_END
