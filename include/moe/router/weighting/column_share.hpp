// Weights by expert instead of by row: an expert's are shared among the rows of a segment that it took. The
// gate of patch-level routing, Chowdhury et al. 2306.04073.
#pragma once

#include "moe/core/executor.hpp"
#include "moe/kernel/math.hpp"
#include "moe/router/weighting/concept.hpp"

MOE_NAMESPACE_BEGIN

/// With the l rows of a segment that have expert e, j one of them: weight_je = G / l, G the softmax of their
/// scores on e (of logits where the score is the identity), or 1: then the sum over the rows of a segment is
/// the mean of e's results. For set selections; looks at the segment.
class ColumnShare {
 public:
  static constexpr const char* kName = "column_share";
  struct Options {
    bool softmax = true;  // else G = 1, which trains no router
  };

  static constexpr Coupling coupling(bool) noexcept { return Coupling::per_segment; }

  ColumnShare() = default;
  explicit ColumnShare(Options options) : options_(options) {}
  const Options& options() const noexcept { return options_; }

  void measure(Arena& arena, Index, Index outputs) const { Columns{arena, outputs}; }

  template <class Real, Executor X>
  void set_weights(const SetCall<Real>& set, const ChosenSet& chosen, Real* weight, bool* keep, Arena& arena,
                   X&) const {
    const Columns columns(arena, set.score.cols);
    each_segment(set, [&](Index first, Index last) {
      count(set, chosen, first, last, columns);
      each_choice(chosen, first, last, [&](Index t, Index i, Index e) {
        weight[i] = static_cast<Real>(share(set, columns, t, e) / columns.rows[e]);
        keep[i] = true;
      });
    });
  }

  /// d score_j = G_j (dw_j - sum_i G_i dw_i) / l.
  template <class Real, Executor X>
  void set_weights_backward(const SetCall<Real>& set, const ChosenSet& chosen, const Real* dweight,
                            const MatrixView<Real>& dscore, Arena& arena, X&) const {
    const Columns columns(arena, set.score.cols);
    if (!options_.softmax) return;
    each_segment(set, [&](Index first, Index last) {
      count(set, chosen, first, last, columns);
      for (Index e = 0; e < set.score.cols; ++e) columns.mean[e] = 0;
      each_choice(chosen, first, last, [&](Index t, Index i, Index e) {
        columns.mean[e] += share(set, columns, t, e) * static_cast<double>(dweight[i]);
      });
      each_choice(chosen, first, last, [&](Index t, Index i, Index e) {
        const double from_mean = static_cast<double>(dweight[i]) - columns.mean[e];
        dscore(t, e) += static_cast<Real>(share(set, columns, t, e) * from_mean / columns.rows[e]);
      });
    });
  }

 private:
  struct Columns {
    double* rows;  // [N] l
    double* top;   // [N] highest score
    double* sum;   // [N] of exp(score - top)
    double* mean;  // [N] sum of G dw
    Columns(Arena& arena, Index outputs)
        : rows(arena.take<double>(outputs)),
          top(arena.take<double>(outputs)),
          sum(arena.take<double>(outputs)),
          mean(arena.take<double>(outputs)) {}
  };

  template <class Real, class F>
  static void each_segment(const SetCall<Real>& set, F&& f) {
    const Index tokens = set.score.rows;
    for (Index s = 0; s < set.call.segments.count(tokens); ++s)
      f(set.call.segments.begin(s), set.call.segments.end(s, tokens));
  }
  /// f(row, place of the choice, expert), rows ascending.
  template <class F>
  static void each_choice(const ChosenSet& chosen, Index first, Index last, F&& f) {
    for (Index t = first; t < last; ++t) {
      for (Index i = t * chosen.most; i < t * chosen.most + chosen.count[t]; ++i) f(t, i, chosen.id[i]);
    }
  }

  template <class Real>
  void count(const SetCall<Real>& set, const ChosenSet& chosen, Index first, Index last,
             const Columns& columns) const {
    for (Index e = 0; e < set.score.cols; ++e) columns.rows[e] = columns.sum[e] = 0;
    each_choice(chosen, first, last, [&](Index t, Index, Index e) {
      const auto score = static_cast<double>(set.score(t, e));
      if (columns.rows[e] == 0 || score > columns.top[e]) columns.top[e] = score;
      columns.rows[e] += 1;
    });
    each_choice(chosen, first, last, [&](Index t, Index, Index e) {
      columns.sum[e] += math::exp_nonpositive(static_cast<double>(set.score(t, e)) - columns.top[e]);
    });
  }

  /// G.
  template <class Real>
  double share(const SetCall<Real>& set, const Columns& columns, Index t, Index e) const {
    if (!options_.softmax) return 1;
    return math::exp_nonpositive(static_cast<double>(set.score(t, e)) - columns.top[e]) / columns.sum[e];
  }

  Options options_{};
};

MOE_NAMESPACE_END
