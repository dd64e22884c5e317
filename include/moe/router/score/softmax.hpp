// softmax over all outputs: the score of most routers.
#pragma once

#include "moe/core/types.hpp"
#include "moe/kernel/row.hpp"
#include "moe/kernel/softmax.hpp"

MOE_NAMESPACE_BEGIN

/// softmax over all outputs.
struct Softmax {
  template <class Real>
  void forward(const Real* logit, Real* score, Index n) const noexcept {
    softmax_row(logit, score, n);
  }
  template <class Real>
  void backward(const Real*, const Real* score, const Real* dscore, Real* dlogit, Index n) const noexcept {
    softmax_backward_row(score, dscore, dlogit, n);
  }
  template <class Real>
  void probability(const Real* score, Real* out, Index n) const noexcept {
    copy_row(score, out, n);
  }
  template <class Real>
  void probability_backward(const Real*, const Real*, const Real* dprobability, Real* dscore,
                            Index n) const noexcept {
    add_row(dprobability, dscore, n);
  }
};

MOE_NAMESPACE_END
