// BASE layers: a balanced assignment in training, the best expert in inference. Lewis et al. 2103.16716.
#pragma once

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/identity.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/assignment.hpp"
#include "moe/router/weighting/sigmoid.hpp"

MOE_NAMESPACE_BEGIN

struct BaseOptions {
  Index width = 0;          // D
  Index experts = 0;        // E
  double tolerance = 1e-3;  // of the assignment, see router/selection/assignment.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// The weight is the sigmoid s of the chosen logit, and no loss is needed. The paper's s E(x) + (1 - s) x
/// with E(x) = x + FFN(LN x) is x + s FFN(LN x): experts are the FFN, x is the caller's residual.
template <class Real>
using BaseRouter = TokenChoice<LinearScorer<Real>, IdentityScore, Assignment, SigmoidWeighting>;

/// Throws config_error for sizes below 1 or a tolerance outside (0, 1].
template <class Real>
BaseRouter<Real> base_router(const BaseOptions& options) {
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          IdentityScore{},
          Assignment({.tolerance = options.tolerance}),
          SigmoidWeighting{},
          Balancing<>{},
          options.non_finite};
}

MOE_NAMESPACE_END
