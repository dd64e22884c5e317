// A sigmoid of each chosen score.
#pragma once

#include "moe/kernel/math.hpp"
#include "moe/router/weighting/concept.hpp"

MOE_NAMESPACE_BEGIN

/// sigmoid of the chosen scores, each on its own (Llama 4, which chooses by logits).
class SigmoidWeighting {
 public:
  static constexpr const char* kName = "sigmoid";

  template <class Real>
  void forward(const RowContext<Real>& row, const Chosen& chosen, Real* weight, bool* keep) const noexcept {
    for (Index i = 0; i < chosen.count; ++i) {
      weight[i] = math::sigmoid_pair(row.score[chosen.id[i]]).of_x;
      keep[i] = true;
    }
  }

  template <class Real>
  void backward(const RowContext<Real>& row, const Chosen& chosen, const Real* dweight,
                Real* dscore) const noexcept {
    for (Index i = 0; i < chosen.count; ++i) {
      const auto s = math::sigmoid_pair(row.score[chosen.id[i]]);
      dscore[chosen.id[i]] += dweight[i] * (s.of_x * s.of_minus_x);
    }
  }
};

MOE_NAMESPACE_END
