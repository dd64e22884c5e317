// One weight for all choices: their results' mean. ReMix; what a router is trained by then is not its
// weights.
#pragma once

#include "moe/router/weighting/concept.hpp"

MOE_NAMESPACE_BEGIN

/// 1 over the number of a row's choices. No score has a part in it, and none a gradient.
class EqualWeighting {
 public:
  static constexpr const char* kName = "equal";

  template <class Real>
  void forward(const RowContext<Real>&, const Chosen& chosen, Real* weight, bool* keep) const noexcept {
    for (Index i = 0; i < chosen.count; ++i) {
      weight[i] = Real{1} / static_cast<Real>(chosen.count);
      keep[i] = true;
    }
  }
  template <class Real>
  void backward(const RowContext<Real>&, const Chosen&, const Real*, Real*) const noexcept {}
};

MOE_NAMESPACE_END
