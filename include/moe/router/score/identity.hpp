// Logits as scores: for routers that choose by logits and weigh later.
#pragma once

#include "moe/core/types.hpp"
#include "moe/kernel/row.hpp"
#include "moe/kernel/softmax.hpp"

MOE_NAMESPACE_BEGIN

/// The logits themselves (selection on logits, softmax over the kept); their probabilities are the softmax.
struct IdentityScore {
  template <class Real>
  void forward(const Real* logit, Real* score, Index n) const noexcept {
    copy_row(logit, score, n);
  }
  template <class Real>
  void backward(const Real*, const Real*, const Real* dscore, Real* dlogit, Index n) const noexcept {
    add_row(dscore, dlogit, n);
  }
  template <class Real>
  void probability(const Real* score, Real* out, Index n) const noexcept {
    softmax_row(score, out, n);
  }
  template <class Real>
  void probability_backward(const Real*, const Real* probability, const Real* dprobability, Real* dscore,
                            Index n) const noexcept {
    softmax_backward_row(probability, dprobability, dscore, n);
  }
};

MOE_NAMESPACE_END
