// Experts choose their tokens by a transport plan: every expert takes the rows of a segment that its column
// of the plan gives most, and the plan's entries are the weights. Liu et al. 2401.15969 (Sinkhorn and
// sparsity-constrained expert choice); the sparse plan is that of Liu, Puigcerver, Blondel 2209.15466. Not
// causal.
#pragma once

#include <algorithm>
#include <cstdint>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/softmax.hpp"
#include "moe/router/selection/column_top_k.hpp"
#include "moe/router/selection/concept.hpp"
#include "moe/router/sinkhorn.hpp"

MOE_NAMESPACE_BEGIN

enum class ColumnPlanKind : std::uint8_t {
  entropic,  // rows sum to 1, columns to R / M, within the tolerance: Sinkhorn's, of which columns take the
             // top
  sparse,    // columns sum to R / M over C rows at most, row sums are drawn towards 1
};

/// Plan P [R, M] of the logits over the regularisation, R active rows of the segment, M outputs that are not
/// masked for all of them; every output takes C rows as ColumnTopK's do, of those that get something. The
/// sparse plan maximises <P, z> - |P|^2 / 2 by steps of 1 / M on the rows' potentials.
/// Gradients hold the potentials as constants: through a row's softmax, or a column's projection onto the
/// simplex of the rows it took.
class ColumnPlan {
 public:
  static constexpr const char* kName = "column_plan";
  static constexpr bool kPlansInInference = true;
  struct Options {
    ColumnPlanKind kind = ColumnPlanKind::entropic;
    double capacity_factor = 2;
    double regularisation = 1;
    double tolerance = 1e-4;  // of the columns' sums (entropic) or the rows' (sparse), relative
    Index iterations = 100;   // at most
  };

  static constexpr Coupling coupling(bool) noexcept { return Coupling::per_segment; }

  explicit ColumnPlan(Options options)
      : options_(options), columns_({.capacity_factor = options.capacity_factor}) {}
  const Options& options() const noexcept { return options_; }

  /// Throws config_error unless 0 < capacity_factor <= N, and for the other options out of their range.
  void check(Index outputs) const {
    columns_.check(outputs);
    require_range("iterations of a plan", options_.iterations, 1, INT32_MAX);
    if (!(options_.regularisation > 0 && is_finite(options_.regularisation) &&
          is_finite(1 / options_.regularisation))) {
      fail<config_error>("regularisation of a plan: expected a finite value > 0, got ",
                         options_.regularisation);
    }
    if (!(options_.tolerance >= 0 && is_finite(options_.tolerance))) {
      fail<config_error>("tolerance of a plan: expected a finite value >= 0, got ", options_.tolerance);
    }
  }
  template <class Real>
  void check_call(const RouterInput<Real>& in) const {
    columns_.check_call(in);
  }
  Index max_pairs(const CallShape& shape, Index outputs) const { return columns_.max_pairs(shape, outputs); }
  void measure(Arena& arena, Index tokens, Index outputs) const { Scratch{arena, tokens, outputs}; }

  template <class Real, Executor X>
  void select_set(const SetCall<Real>& set, ExpertId* chosen, Index* count, Arena& arena, X& executor) const {
    const Index tokens = set.choice.rows, n = set.choice.cols;
    const double asked = set.call.options.capacity_factor;
    const double factor = asked == 0 ? options_.capacity_factor : asked;
    const Scratch s(arena, tokens, n);
    std::fill_n(s.taken, tokens * n, false);
    for (Index segment = 0; segment < set.call.segments.count(tokens); ++segment) {
      Index rows = 0;
      for (Index t = set.call.segments.begin(segment); t < set.call.segments.end(segment, tokens); ++t) {
        if (set.active[t]) s.row[rows++] = static_cast<std::int32_t>(t);
      }
      if (rows == 0) continue;
      for (Index r = 0; r < rows; ++r) {
        for (Index e = 0; e < n; ++e) s.z[r * n + e] = cost(set, s.row[r], e);
      }
      const Index places = ColumnTopK::capacity(rows, factor, n);
      if (options_.kind == ColumnPlanKind::entropic) {
        s.sinkhorn.run(s.z, rows, n, options_.tolerance, options_.iterations, s.potential, 0, executor);
        for (Index r = 0; r < rows; ++r) Sinkhorn::plan_row(s.z + r * n, s.potential, s.p + r * n, n);
      } else {
        sparse_plan(s, rows, n, places, executor);
      }
      executor.parallel_for(n, [&](Index e, Index) noexcept {
        std::int32_t* const order = s.order + e * tokens;
        const Index candidates = list(order, rows, [&](Index r) { return s.p[r * n + e] > 0; });
        const Index taken = top(order, candidates, places, [&](Index r) { return s.p[r * n + e]; });
        for (Index i = 0; i < taken; ++i) s.taken[s.row[order[i]] * n + e] = true;
      });
      for (Index r = 0; r < rows && !set.plan.empty(); ++r) {
        for (Index e = 0; e < n; ++e) set.plan(s.row[r], e) = static_cast<Real>(s.p[r * n + e]);
      }
    }
    for (Index t = 0; t < tokens; ++t) {
      count[t] = 0;
      for (Index e = 0; e < n; ++e) {
        if (s.taken[t * n + e]) chosen[t * n + count[t]++] = static_cast<ExpertId>(e);
      }
    }
  }

  bool plans() const noexcept { return true; }
  Index kept(Index, Index) const noexcept { return 0; }
  void measure_backward(Arena&, Index, Index) const noexcept {}

  template <class Real, Executor X>
  void plan_backward(const SetCall<Real>& set, const MatrixView<Real>& dplan, const MatrixView<Real>&,
                     const MatrixView<Real>& dlogit, Arena&, X& executor) const {
    const Index tokens = set.plan.rows, n = set.plan.cols;
    const auto by = static_cast<Real>(1 / options_.regularisation);
    if (options_.kind == ColumnPlanKind::entropic) {
      executor.parallel_for(tokens, [&](Index t, Index) noexcept {
        if (!set.active[t]) return;
        scale_row(by, dplan.row(t), dplan.row(t), n);
        softmax_backward_row(set.plan.row(t), dplan.row(t), dlogit.row(t), n);
      });
      return;
    }
    executor.parallel_for(n, [&](Index e, Index) noexcept {
      for (Index segment = 0; segment < set.call.segments.count(tokens); ++segment) {
        const Index first = set.call.segments.begin(segment), last = set.call.segments.end(segment, tokens);
        const auto in_support = [&](Index t) { return set.active[t] && set.plan(t, e) > 0; };
        Index support = 0;
        Real sum = 0;
        for (Index t = first; t < last; ++t) {
          if (in_support(t)) ++support, sum += dplan(t, e);
        }
        for (Index t = first; t < last; ++t) {
          if (in_support(t)) dlogit(t, e) += by * (dplan(t, e) - sum / static_cast<Real>(support));
        }
      }
    });
  }

 private:
  struct Scratch {
    double* z;            // [T, N] of the segment's active rows
    double* p;            // [T, N] their plan
    double* value;        // [N, T] of a column's rows
    double* potential;    // [max(T, N)]
    bool* taken;          // [T, N]
    std::int32_t* order;  // [N, T]
    std::int32_t* row;    // [T]
    Sinkhorn sinkhorn;
    Scratch(Arena& arena, Index tokens, Index outputs)
        : z(arena.take<double>(checked_product("plan", tokens, outputs))),
          p(arena.take<double>(tokens * outputs)),
          value(arena.take<double>(tokens * outputs)),
          potential(arena.take<double>((std::max)(tokens, outputs))),
          taken(arena.take<bool>(tokens * outputs)),
          order(arena.take<std::int32_t>(tokens * outputs)),
          row(arena.take<std::int32_t>(tokens)),
          sinkhorn(arena, tokens, outputs) {}
  };

  /// z of row t and output e; bounded, so that sums with potentials stay finite.
  template <class Real>
  double cost(const SetCall<Real>& set, Index t, Index e) const noexcept {
    if (is_neg_inf(set.logit(t, e))) return impl::kMasked<double>;
    return std::clamp(static_cast<double>(set.logit(t, e)) / options_.regularisation, -1e300, 1e300);
  }

  /// The r < rows that fit, ascending; how many.
  template <class Fits>
  static Index list(std::int32_t* order, Index rows, const Fits& fits) noexcept {
    Index count = 0;
    for (Index r = 0; r < rows; ++r) {
      if (fits(r)) order[count++] = static_cast<std::int32_t>(r);
    }
    return count;
  }
  /// Brings the `most` highest of `count` to the front, the lower row first among equals; how many.
  template <class Value>
  static Index top(std::int32_t* order, Index count, Index most, const Value& value) noexcept {
    const Index taken = (std::min)(most, count);
    std::nth_element(order, order + taken, order + count, [&](std::int32_t a, std::int32_t b) {
      const double of_a = value(a), of_b = value(b);
      return of_a != of_b ? of_a > of_b : a < b;
    });
    return taken;
  }

  template <Executor X>
  void sparse_plan(const Scratch& s, Index rows, Index n, Index places, X& executor) const {
    Index open = 0;
    for (Index e = 0; e < n; ++e) {
      bool any = false;
      for (Index r = 0; r < rows && !any; ++r) any = !is_neg_inf(s.z[r * n + e]);
      open += any ? 1 : 0;
    }
    const double share = static_cast<double>(rows) / static_cast<double>(open);
    std::fill_n(s.potential, rows, 0.0);
    for (Index i = 0;; ++i) {
      executor.parallel_for(n, [&](Index e, Index) noexcept {
        project_column(s.z + e, n, s.potential, rows, places, share, s.order + e * rows, s.value + e * rows,
                       s.p + e);
      });
      if (i == options_.iterations) return;
      double off = 0;
      for (Index r = 0; r < rows; ++r) {
        double sum = -1;
        for (Index e = 0; e < n; ++e) sum += s.p[r * n + e];
        off = (std::max)(off, sum < 0 ? -sum : sum);
        s.potential[r] -= sum / static_cast<double>(open);
      }
      if (off <= options_.tolerance) return;
    }
  }

  /// p [rows] = the nonnegative numbers of sum `share` nearest to z + potential, `places` of them at most.
  static void project_column(const double* z, Index n, const double* potential, Index rows, Index places,
                             double share, std::int32_t* order, double* value, double* p) noexcept {
    const auto at = [&](Index r) { return z[r * n] + potential[r]; };
    for (Index r = 0; r < rows; ++r) p[r * n] = 0;
    const Index candidates = list(order, rows, [&](Index r) { return !is_neg_inf(z[r * n]); });
    const Index taken = top(order, candidates, places, at);
    for (Index i = 0; i < taken; ++i) value[i] = at(order[i]);
    std::sort(value, value + taken, [](double a, double b) { return a > b; });
    double sum = 0, level = 0;
    for (Index i = 0; i < taken; ++i) {
      sum += value[i];
      const double candidate = (sum - share) / static_cast<double>(i + 1);
      if (value[i] > candidate) level = candidate;
    }
    for (Index i = 0; i < taken; ++i) {
      const double v = at(order[i]) - level;
      p[order[i] * n] = v > 0 ? v : 0;
    }
  }

  Options options_;
  ColumnTopK columns_;
};

MOE_NAMESPACE_END
