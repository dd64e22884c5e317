// Logits as scores: for routers that choose by logits and weigh later.
#pragma once

#include "moe/kernel/row.hpp"
#include "moe/kernel/softmax.hpp"
#include "moe/router/row_context.hpp"

MOE_NAMESPACE_BEGIN

/// The logits themselves (selection on logits, softmax over the kept); their probabilities are the softmax.
struct IdentityScore {
  static constexpr const char* kName = "identity";

  template <class Real>
  void forward(const RowContext<Real>& row, Real* score) const noexcept {
    copy_row(row.logit, score, row.n);
  }
  template <class Real>
  void backward(const RowContext<Real>& row, const Real* dscore, Real* dlogit) const noexcept {
    add_row(dscore, dlogit, row.n);
  }
  template <class Real>
  void probability(const RowContext<Real>& row, Real* out) const noexcept {
    softmax_row(row.score, out, row.n);
  }
  template <class Real>
  void probability_backward(const RowContext<Real>& row, const Real* probability, const Real* dprobability,
                            Real* dscore) const noexcept {
    softmax_backward_row(probability, dprobability, dscore, row.n);
  }
};

MOE_NAMESPACE_END
