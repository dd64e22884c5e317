// softmax over all outputs: the score of most routers.
#pragma once

#include "moe/kernel/row.hpp"
#include "moe/kernel/softmax.hpp"
#include "moe/router/row_context.hpp"

MOE_NAMESPACE_BEGIN

/// softmax over all outputs.
struct Softmax {
  static constexpr const char* kName = "softmax";

  template <class Real>
  void forward(const RowContext<Real>& row, Real* score) const noexcept {
    softmax_row(row.logit, score, row.n);
  }
  template <class Real>
  void backward(const RowContext<Real>& row, const Real* dscore, Real* dlogit) const noexcept {
    softmax_backward_row(row.score, dscore, dlogit, row.n);
  }
  template <class Real>
  void probability(const RowContext<Real>& row, Real* out) const noexcept {
    copy_row(row.score, out, row.n);
  }
  template <class Real>
  void probability_backward(const RowContext<Real>& row, const Real*, const Real* dprobability,
                            Real* dscore) const noexcept {
    add_row(dprobability, dscore, row.n);
  }
};

MOE_NAMESPACE_END
