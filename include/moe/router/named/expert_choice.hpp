// Expert choice: every expert takes the tokens of a segment that score highest on it. Weights are the raw
// softmax entries; no loss is needed. Zhou et al. 2202.09368.
#pragma once

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/column_top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct ExpertChoiceOptions {
  Index width = 0;             // D
  Index experts = 0;           // E
  double capacity_factor = 2;  // experts per token on average, see router/selection/column_top_k.hpp
  Index cap = 0;               // experts per token at most (EC-CAP2: 2); 0: any number
  NonFinite non_finite = NonFinite::throw_;
};

template <class Real>
using ExpertChoice = TokenChoice<LinearScorer<Real>, Softmax, ColumnTopK, GatherWeighting>;

/// Throws config_error unless 0 < capacity_factor <= E, and cap where there is one.
template <class Real>
ExpertChoice<Real> expert_choice(const ExpertChoiceOptions& options) {
  return {LinearScorer<Real>({.width = options.width, .outputs = options.experts}),
          Softmax{},
          ColumnTopK({.capacity_factor = options.capacity_factor, .cap = options.cap}),
          GatherWeighting{},
          Balancing<>{},
          options.non_finite};
}

MOE_NAMESPACE_END
