// Sequence-wise balance loss: the load-balance loss of every segment for itself. DeepSeek-V3 2412.19437
// section 2.1.2.
#pragma once

#include "moe/router/balance/concept.hpp"

MOE_NAMESPACE_BEGIN

/// c * mean over segments of sum over outputs of f_e * P_e, with f_e = N * (share of the segment's choices
/// that fell on e) and P_e the segment's mean probability (the scores divided by their sum, over all
/// outputs). c when balanced. A segment without active tokens does not count; every other counts alike,
/// however long. Without segments the batch is one. f has no gradient.
class SequenceBalance {
 public:
  static constexpr const char* kName = "sequence_balance";

  struct Options {
    double coefficient = 1e-4;
  };

  SequenceBalance() = default;
  /// Throws config_error for a coefficient that is not finite.
  explicit SequenceBalance(Options options) : SequenceBalance(options.coefficient) {}
  explicit SequenceBalance(double coefficient)
      : coefficient_(impl::checked_coefficient(kName, coefficient)) {}

  double coefficient() const noexcept { return coefficient_; }
  void measure(Arena& arena, Index, Index outputs) const { arena.take<double>(outputs); }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena& arena) const {
    double* const factor = arena.take<double>(in.outputs());
    const double common = per_segment(in);
    double sum = 0;
    for (Index s = 0; s < segments(in); ++s) {
      const Range range = range_of(in, s);
      factors(in, range, common, factor);
      for (Index t = range.first; t < range.last; ++t) {
        if (!in.active[t]) continue;
        for (Index e = 0; e < in.outputs(); ++e) sum += factor[e] * static_cast<double>(in.probability(t, e));
      }
    }
    return sum;
  }

  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out,
                Arena& arena) const {
    double* const factor = arena.take<double>(in.outputs());
    const double common = scale * per_segment(in);
    for (Index s = 0; s < segments(in); ++s) {
      const Range range = range_of(in, s);
      factors(in, range, common, factor);
      for (Index t = range.first; t < range.last; ++t) {
        if (!in.active[t]) continue;
        for (Index e = 0; e < in.outputs(); ++e) out.dprobability(t, e) += static_cast<Real>(factor[e]);
      }
    }
  }

 private:
  struct Range {
    Index first = 0;
    Index last = 0;
    Index active = 0;
  };

  template <class Real>
  static Index segments(const BalanceInput<Real>& in) noexcept {
    return in.call.segments.count(in.tokens());
  }

  template <class Real>
  static Range range_of(const BalanceInput<Real>& in, Index s) noexcept {
    Range range{in.call.segments.begin(s), in.call.segments.end(s, in.tokens())};
    for (Index t = range.first; t < range.last; ++t) range.active += in.active[t] ? 1 : 0;
    return range;
  }

  /// c / (segments with active tokens).
  template <class Real>
  double per_segment(const BalanceInput<Real>& in) const noexcept {
    Index counted = 0;
    for (Index s = 0; s < segments(in); ++s) counted += range_of(in, s).active > 0 ? 1 : 0;
    return counted == 0 ? 0.0 : coefficient_ / static_cast<double>(counted);
  }

  /// factor[e] = common * f_e / (active tokens of the segment).
  template <class Real>
  static void factors(const BalanceInput<Real>& in, const Range& range, double common,
                      double* factor) noexcept {
    for (Index e = 0; e < in.outputs(); ++e) factor[e] = 0;
    Index total = 0;
    for (Index t = range.first; t < range.last; ++t) {
      if (!in.active[t]) continue;
      for (Index i = 0; i < in.chosen_count[t]; ++i) factor[in.choices(t)[i]] += 1;
      total += in.chosen_count[t];
    }
    if (total == 0) return;
    common *=
        static_cast<double>(in.outputs()) / static_cast<double>(total) / static_cast<double>(range.active);
    for (Index e = 0; e < in.outputs(); ++e) factor[e] *= common;
  }

  double coefficient_ = Options{}.coefficient;
};

MOE_NAMESPACE_END
