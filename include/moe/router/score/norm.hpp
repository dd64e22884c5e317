// The positive part of the row of logits at length 1, times a trained number: the router of UniPool, whose
// gates are these scores as they are.
#pragma once

#include <cmath>
#include <cstdint>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/column.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/random.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/math.hpp"
#include "moe/kernel/top_k.hpp"
#include "moe/router/row_context.hpp"
#include "moe/router/score/elementwise.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

/// The mean of 1 / |the k largest of max(z / |z|, 0)| over rows z ~ N(0, I) of n numbers: times it, the gates
/// of k chosen experts have length 1 or so at first. By `samples` draws keyed by `seed` (a moment of compute
/// for some hundred experts); a row without a positive number is left out. Throws config_error for k outside
/// [1, n] or less than one sample.
inline double norm_score_scale(Index n, Index k, Index samples = 100000, std::uint64_t seed = 42) {
  require_range("outputs of a norm score", n, 1, INT32_MAX);
  require_range("k of a norm score", k, 1, n);
  require_range("samples of a norm score", samples, 1, INT32_MAX);
  const KeyedRandom draw(seed, 0, DrawStream::initialise);
  Buffer<double> row(n);
  Buffer<ExpertId> best(k);
  double sum = 0;
  Index counted = 0;
  for (Index i = 0; i < samples; ++i) {
    double all = 0, kept = 0;
    for (Index j = 0; j < n; ++j) {
      row[j] = draw.normal(static_cast<std::uint64_t>(i), static_cast<std::uint32_t>(j));
      all += row[j] * row[j];
    }
    top_k_row(row.data(), n, k, best.data());
    for (Index j = 0; j < k; ++j) {
      const double z = row[best[j]];
      if (z > 0) kept += z * z;
    }
    if (kept == 0) continue;
    sum += std::sqrt(all / kept);
    ++counted;
  }
  return counted == 0 ? 1.0 : sum / static_cast<double>(counted);
}

/// s_e = c s0 max(l_e, 0) / (|l| + eps), |l| over the outputs that are not masked: those count as 0 before
/// the norm. A factor on all logits changes nothing but by eps. Parameter "norm.gain" c [1, 1], 1 at first.
/// Probabilities are shares of the sum. set_factor() makes the scores of some outputs smaller, without taking
/// their logits out of |l|: state "norm.factor" [N], once it was called. Not for AnyScore: its parameter has
/// the router's type.
template <class RealType>
class NormScore : public impl::ShareOfSum {
 public:
  using Real = RealType;
  static constexpr const char* kName = "norm";
  struct Options {
    double scale = 1;  // s0: see norm_score_scale()
    double eps = 1e-6;
  };
  struct Gradients {
    Buffer<Real> gain;  // [1]
  };

  NormScore() : NormScore(Options{}) {}
  /// Throws config_error for a scale or an eps that is not positive and finite.
  explicit NormScore(Options options) : options_(options) {
    if (!(options.scale > 0 && is_finite(options.scale))) {
      fail<config_error>("norm score scale: expected a finite value > 0, got ", options.scale);
    }
    if (!(options.eps > 0 && is_finite(options.eps))) {
      fail<config_error>("score eps: expected a finite value > 0, got ", options.eps);
    }
    gain_.assign(1, Real{1});
  }

  const Options& options() const noexcept { return options_; }
  void check(Index outputs) const {
    impl::require_there("norm score", gain_.size() == 1);
    if (!factor_.empty()) require_extent("norm score", "factors", outputs, factor_.size());
  }
  /// Scores of outputs that are not `kept` [N] are multiplied by `factor`: 1 at the beginning of a fade, 0 at
  /// its end, of UniPool-lock half a cosine (CosineSchedule). Throws config_error for one outside [0, 1].
  void set_factor(const Column<bool>& kept, double factor) {
    if (!(factor >= 0 && factor <= 1)) {
      fail<config_error>("norm score factor: expected a value in [0, 1], got ", factor);
    }
    factor_.assign(static_cast<Index>(kept.size()), Real{1});
    for (Index e = 0; e < factor_.size(); ++e) {
      if (!kept[e]) factor_[e] = static_cast<Real>(factor);
    }
  }
  /// Of output e.
  Real factor(Index e) const noexcept { return factor_.empty() ? Real{1} : factor_[e]; }

  void forward(const RowContext<Real>& row, Real* score) const noexcept {
    const Real factor = gain_[0] * static_cast<Real>(options_.scale) / size_of(row).with_eps;
    for (Index e = 0; e < row.n; ++e) score[e] = positive(row.logit[e]) * factor;
    for (Index e = 0; !factor_.empty() && e < row.n; ++e) score[e] *= factor_[e];
  }
  /// With f = c s0 / (|l| + eps), a = max(l, 0) and d times the factors: dl_e = f d_e where l_e > 0, less
  /// f <d, a> l_e / |l| / (|l| + eps).
  void backward(const RowContext<Real>& row, const Real* dscore, Real* dlogit) const noexcept {
    const Size size = size_of(row);
    if (size.length == 0) return;
    const Real factor = gain_[0] * static_cast<Real>(options_.scale) / size.with_eps;
    const Real through = along(row, dscore, size) * factor;
    for (Index e = 0; e < row.n; ++e) {
      if (is_neg_inf(row.logit[e])) continue;
      if (row.logit[e] > 0) dlogit[e] += factor * (dscore[e] * this->factor(e));
      dlogit[e] -= through * (row.logit[e] / size.length);
    }
  }
  /// dc = s0 <d, a> / (|l| + eps).
  void add_gradients(const RowContext<Real>& row, const Real* dscore, Gradients& gradients) const noexcept {
    gradients.gain[0] += static_cast<Real>(options_.scale) * along(row, dscore, size_of(row));
  }

  Gradients make_gradients() const { return {Buffer<Real>(gain_.size())}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    f(Parameter<Real>{
        "norm.gain",
        {gain_.data(), 1, 1},
        gradients == nullptr ? ParameterView<Real>{} : ParameterView<Real>{gradients->gain.data(), 1, 1}});
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    visit_buffer(f, "norm.gain", gain_, gradients, &Gradients::gain);
  }

  /// f gets a copy, taken over if all of it lies in [0, 1]; otherwise numeric_error.
  template <class Visitor>
  void visit_state(Visitor& f) {
    if (factor_.empty()) return;
    Buffer<double> copy = factors();
    f("norm.factor", copy.data(), copy.size());
    for (const double v : copy) {
      if (!(v >= 0 && v <= 1)) fail<numeric_error>("norm.factor: expected values in [0, 1], got ", v);
    }
    for (Index e = 0; e < copy.size(); ++e) factor_[e] = static_cast<Real>(copy[e]);
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    if (factor_.empty()) return;
    const Buffer<double> copy = factors();
    f("norm.factor", copy.data(), copy.size());
  }

 private:
  struct Size {
    Real length, with_eps;
  };

  Buffer<double> factors() const {
    Buffer<double> all(factor_.size());
    for (Index e = 0; e < all.size(); ++e) all[e] = static_cast<double>(factor_[e]);
    return all;
  }
  static Real positive(Real logit) noexcept { return logit > 0 ? logit : Real{0}; }
  /// |l| without masked outputs, by the largest of them, so that squares do not overflow.
  Size size_of(const RowContext<Real>& row) const noexcept {
    Real largest = 0, squares = 0;
    for (Index e = 0; e < row.n; ++e) {
      const Real size = row.logit[e] < 0 ? -row.logit[e] : row.logit[e];
      if (!is_neg_inf(row.logit[e]) && size > largest) largest = size;
    }
    for (Index e = 0; largest > 0 && e < row.n; ++e) {
      const Real part = is_neg_inf(row.logit[e]) ? Real{0} : row.logit[e] / largest;
      squares += part * part;
    }
    const Real length = largest * math::square_root(squares);
    return {length, length + static_cast<Real>(options_.eps)};
  }
  /// <d, a> / (|l| + eps).
  Real along(const RowContext<Real>& row, const Real* dscore, const Size& size) const noexcept {
    Real sum = 0;
    for (Index e = 0; e < row.n; ++e) sum += dscore[e] * factor(e) * (positive(row.logit[e]) / size.with_eps);
    return sum;
  }

  Options options_{};
  Buffer<Real> gain_;    // [1]
  Buffer<Real> factor_;  // [N] or empty
};

MOE_NAMESPACE_END
