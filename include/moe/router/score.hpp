// Score functions: logits of one row -> scores of one row, with their backward, and the probabilities that
// the balance losses are built on.
#pragma once

#include <concepts>

#include "moe/core/types.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/kernel/row.hpp"
#include "moe/kernel/softmax.hpp"

MOE_NAMESPACE_BEGIN

/// Rows of n entries. `backward` adds to dlogit. `probability` turns scores into a distribution over the
/// row's outputs (for losses); its backward adds to dscore. A masked output (logit -inf) has probability 0.
template <class F>
concept ScoreFunction = std::copy_constructible<F> &&
    requires(const F& f, const double* in, double* out, Index n) {
  f.forward(in, out, n);                       // logit, score
  f.backward(in, in, in, out, n);              // logit, score, dscore, dlogit +=
  f.probability(in, out, n);                   // score, probability
  f.probability_backward(in, in, in, out, n);  // score, probability, dprobability, dscore +=
};

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

namespace impl {

/// probability = score / sum of scores (0 where the sum is 0), for scores >= 0.
struct ShareOfSum {
  template <class Real>
  static void forward(const Real* score, Real* out, Index n) noexcept {
    const Real sum = moe::sum_row(score, n);
    for (Index i = 0; i < n; ++i) out[i] = sum > 0 ? score[i] / sum : Real{0};
  }
  /// d score_i = (dp_i - sum_j p_j dp_j) / sum.
  template <class Real>
  static void backward(const Real* score, const Real* probability, const Real* dprobability, Real* dscore,
                       Index n) noexcept {
    const Real sum = moe::sum_row(score, n);
    if (!(sum > 0)) return;
    const Real mean = moe::dot(probability, dprobability, n);
    for (Index i = 0; i < n; ++i) dscore[i] += (dprobability[i] - mean) / sum;
  }
};

/// Applies an activation to every logit; probabilities are shares of the sum.
template <Activation Act>
struct ElementwiseScore {
  template <class Real>
  void forward(const Real* logit, Real* score, Index n) const noexcept {
    activate_row(Act{}, logit, score, n);
  }
  template <class Real>
  void backward(const Real* logit, const Real*, const Real* dscore, Real* dlogit, Index n) const noexcept {
    for (Index i = 0; i < n; ++i) {
      // A masked logit gets nothing: its derivative may be 0 * inf.
      if (!is_neg_inf(logit[i])) dlogit[i] += dscore[i] * Act{}.derivative(logit[i]);
    }
  }
  template <class Real>
  void probability(const Real* score, Real* out, Index n) const noexcept {
    ShareOfSum::forward(score, out, n);
  }
  template <class Real>
  void probability_backward(const Real* score, const Real* probability, const Real* dprobability,
                            Real* dscore, Index n) const noexcept {
    ShareOfSum::backward(score, probability, dprobability, dscore, n);
  }
};

}  // namespace impl

/// sqrt(ln(1 + exp(logit))): DeepSeek-V4's "sqrtsoftplus".
struct SqrtSoftplusScore {
  template <class Real>
  void forward(const Real* logit, Real* score, Index n) const noexcept {
    activate_row(Softplus{}, logit, score, n);
    for (Index i = 0; i < n; ++i) score[i] = math::square_root(score[i]);
  }
  /// d score = sigmoid(logit) / (2 score); 0 where the score underflows, as in a masked output.
  template <class Real>
  void backward(const Real* logit, const Real* score, const Real* dscore, Real* dlogit,
                Index n) const noexcept {
    for (Index i = 0; i < n; ++i) {
      if (score[i] > 0) dlogit[i] += dscore[i] * (Softplus{}.derivative(logit[i]) / (2 * score[i]));
    }
  }
  template <class Real>
  void probability(const Real* score, Real* out, Index n) const noexcept {
    impl::ShareOfSum::forward(score, out, n);
  }
  template <class Real>
  void probability_backward(const Real* score, const Real* probability, const Real* dprobability,
                            Real* dscore, Index n) const noexcept {
    impl::ShareOfSum::backward(score, probability, dprobability, dscore, n);
  }
};

/// Each output on its own: 1 / (1 + exp(-logit)).
struct SigmoidScore : impl::ElementwiseScore<Sigmoid> {};
/// max(logit, 0): ReMoE.
struct ReluScore : impl::ElementwiseScore<Relu> {};

MOE_NAMESPACE_END
