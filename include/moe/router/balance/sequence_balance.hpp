// Sequence-wise balance loss: the load-balance loss of every segment for itself. DeepSeek-V3 2412.19437
// section 2.1.2.
#pragma once

#include <cstdint>
#include <limits>

#include "moe/kernel/finite.hpp"
#include "moe/kernel/top_k.hpp"
#include "moe/router/balance/concept.hpp"

MOE_NAMESPACE_BEGIN

/// What a sequence-wise loss counts of a token.
enum class SequenceCounts : std::uint8_t {
  best_scores,  // its K highest scores, without bias and groups, K as many as it chose (the paper, eq. 18)
  chosen,       // its choices
};

/// c * mean over segments of sum over outputs of f_e * P_e, with f_e = N * (share of the segment's counts
/// that fell on e) and P_e the segment's mean probability (the scores divided by their sum, over all
/// outputs). c when balanced. A segment without active tokens does not count; every other counts alike,
/// however long. Without segments the batch is one. f has no gradient.
class SequenceBalance {
 public:
  static constexpr const char* kName = "sequence_balance";

  struct Options {
    double coefficient = 1e-4;
    SequenceCounts counts = SequenceCounts::best_scores;
  };

  SequenceBalance() = default;
  /// Throws config_error for a coefficient that is not finite.
  explicit SequenceBalance(Options options) : options_(options) {
    impl::checked_coefficient(kName, options.coefficient);
  }
  explicit SequenceBalance(double coefficient) : SequenceBalance(Options{.coefficient = coefficient}) {}

  double coefficient() const noexcept { return options_.coefficient; }
  void measure(Arena& arena, Index, Index outputs) const { Scratch<double>{arena, outputs}; }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena& arena) const {
    const Scratch<Real> scratch(arena, in.outputs());
    const double* const factor = scratch.factor;
    const double common = per_segment(in);
    double sum = 0;
    for (Index s = 0; s < segments(in); ++s) {
      const Range range = range_of(in, s);
      factors(in, range, common, scratch);
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
    const Scratch<Real> scratch(arena, in.outputs());
    const double* const factor = scratch.factor;
    const double common = scale * per_segment(in);
    for (Index s = 0; s < segments(in); ++s) {
      const Range range = range_of(in, s);
      factors(in, range, common, scratch);
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
  struct Scratch {
    double* factor;  // [N]
    Real* open;      // [N] a row's scores without the masked ones
    ExpertId* best;  // [N]
    Scratch(Arena& arena, Index outputs)
        : factor(arena.take<double>(outputs)),
          open(arena.take<Real>(outputs)),
          best(arena.take<ExpertId>(outputs)) {}
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
    return counted == 0 ? 0.0 : options_.coefficient / static_cast<double>(counted);
  }

  /// [chosen_count[t]] what counts of token t.
  template <class Real>
  const ExpertId* counted(const BalanceInput<Real>& in, Index t,
                          const Scratch<Real>& scratch) const noexcept {
    if (options_.counts == SequenceCounts::chosen) return in.choices(t);
    for (Index e = 0; e < in.outputs(); ++e) {
      scratch.open[e] = is_neg_inf(in.logit(t, e)) ? -std::numeric_limits<Real>::infinity() : in.score(t, e);
    }
    top_k_row(scratch.open, in.outputs(), in.chosen_count[t], scratch.best);
    return scratch.best;
  }

  /// factor[e] = common * f_e / (active tokens of the segment).
  template <class Real>
  void factors(const BalanceInput<Real>& in, const Range& range, double common,
               const Scratch<Real>& scratch) const noexcept {
    double* const factor = scratch.factor;
    for (Index e = 0; e < in.outputs(); ++e) factor[e] = 0;
    Index total = 0;
    for (Index t = range.first; t < range.last; ++t) {
      if (!in.active[t]) continue;
      const ExpertId* const id = counted(in, t, scratch);
      for (Index i = 0; i < in.chosen_count[t]; ++i) factor[id[i]] += 1;
      total += in.chosen_count[t];
    }
    if (total == 0) return;
    common *=
        static_cast<double>(in.outputs()) / static_cast<double>(total) / static_cast<double>(range.active);
    for (Index e = 0; e < in.outputs(); ++e) factor[e] *= common;
  }

  Options options_{};
};

MOE_NAMESPACE_END
