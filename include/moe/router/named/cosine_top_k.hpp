// Routing on a hypersphere: rows and experts meet as directions in a small space. X-MoE, Chi et al.
// 2204.09179; geometric routing, "Equifinality in Mixture of Experts" (which calls it ST-MoE; not ST-MoE
// 2202.08906).
#pragma once

#include <cstdint>

#include "moe/router/balance/load_balance.hpp"
#include "moe/router/balance/z.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/sigmoid.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/cosine.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

/// What the published codes of cosine routers do differently.
enum class CosineForm : std::uint8_t {
  paper,        // rows and experts normed, E / 2 dimensions, trained tau from 0.07
  tutel,        // rows and experts normed, 256 dimensions with a bias, trained tau from 0.5
  torchscale,   // only experts normed, 16 dimensions, no tau
  fixed_norms,  // only rows normed, 16 dimensions, experts set to length 1.5 after every step, tau 0.3
  geometric,    // rows and experts normed, 64 dimensions, trained tau from 0.07: Equifinality
};

/// The scorer of one of them.
inline CosineScorerOptions cosine_scorer_options(CosineForm form, Index width, Index experts) {
  CosineScorerOptions o{.width = width, .outputs = experts, .bias = form == CosineForm::tutel};
  switch (form) {
    case CosineForm::paper:
      o.projected = experts > 2 ? experts / 2 : 1, o.tau = 0.07;
      break;
    case CosineForm::tutel:
      o.projected = 256;
      break;
    case CosineForm::torchscale:
      o.projected = 16, o.unit_rows = false, o.trained_tau = false, o.tau = 1;
      break;
    case CosineForm::fixed_norms:
      o.projected = 16, o.unit_directions = false, o.direction_length = 1.5;
      o.trained_tau = false, o.tau = 0.3;
      break;
    case CosineForm::geometric:
      o.projected = 64, o.tau = 0.07;
      break;
  }
  return o;
}

struct CosineTopKOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index k = 1;
  CosineForm form = CosineForm::paper;
  double load_balance = 0.01;  // coefficient, see router/balance/load_balance.hpp
  double z_loss = 0;           // coefficient, see router/balance/z.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// softmax over all experts of cos / tau, the k best, their probabilities as weights.
template <class Real>
using CosineTopK =
    TokenChoice<CosineScorer<Real>, Softmax, TopKSelection, GatherWeighting, Balancing<LoadBalance, ZLoss>>;

/// Each expert's sigmoid of cos / tau instead.
template <class Real>
using CosineSigmoidTopK = TokenChoice<CosineScorer<Real>, SigmoidScore, TopKSelection, GatherWeighting,
                                      Balancing<LoadBalance, ZLoss>>;

namespace impl {
template <class Router, class Score>
Router cosine_router(const CosineTopKOptions& o) {
  using Scorer = CosineScorer<typename Router::Real>;
  return {Scorer(cosine_scorer_options(o.form, o.width, o.experts)),
          Score{},
          TopKSelection(o.k),
          GatherWeighting{},
          Balancing<LoadBalance, ZLoss>(LoadBalance({.coefficient = o.load_balance}), ZLoss(o.z_loss)),
          o.non_finite};
}
}  // namespace impl

/// Throws config_error for sizes or a k that do not fit.
template <class Real>
CosineTopK<Real> cosine_top_k(const CosineTopKOptions& options) {
  return impl::cosine_router<CosineTopK<Real>, Softmax>(options);
}
/// Throws config_error for sizes or a k that do not fit.
template <class Real>
CosineSigmoidTopK<Real> cosine_sigmoid_top_k(const CosineTopKOptions& options) {
  return impl::cosine_router<CosineSigmoidTopK<Real>, SigmoidScore>(options);
}

MOE_NAMESPACE_END
