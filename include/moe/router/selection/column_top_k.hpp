// Experts choose their tokens: every expert takes the C rows of a segment that score highest on it; a row may
// get 0 to N experts. Not causal: a row's experts depend on the rows after it in its segment. Zhou et al.
// 2202.09368; with a cap on the experts of a row (EC-CAP, its section 3.2).
#pragma once

#include <algorithm>
#include <cstdint>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/selection/capped_plan.hpp"
#include "moe/router/selection/concept.hpp"

MOE_NAMESPACE_BEGIN

/// C = round down of (active rows of the segment) * factor / N, at least 1: `factor` is the average number of
/// experts per row. Equal scores: the lower row first. Ids of a row ascend. With a cap the experts take what
/// a plan gives them (capped_plan.hpp): C rows each, short of that only where the cap leaves no row.
class ColumnTopK {
 public:
  static constexpr const char* kName = "column_top_k";
  struct Options {
    double capacity_factor = 2;
    Index rows = 0;                // C as it is, instead of the factor: all rows of a segment that has fewer
    Index cap = 0;                 // experts of a row at most; 0: any number
    double regularisation = 1e-3;  // of the cap: weight of the plan's entropy, against the scores
    Index iterations = 100;        // of the cap, at most
    bool positive = true;          // an output that scores 0 is never taken: softmax shares that underflowed
  };

  static constexpr Coupling coupling(bool) noexcept { return Coupling::per_segment; }

  explicit ColumnTopK(Options options) : options_(options) {}
  const Options& options() const noexcept { return options_; }

  /// Throws config_error unless 0 < capacity_factor <= cap, or N without one, and rows, cap and iterations
  /// are sizes and the regularisation is finite and > 0.
  void check(Index outputs) const {
    require_range("rows of an expert", options_.rows, 0, INT32_MAX);
    require_range("experts of a row", options_.cap, 0, outputs);
    require_range("iterations of a cap", options_.iterations, 1, INT32_MAX);
    if (!(options_.regularisation > 0 && is_finite(options_.regularisation))) {
      fail<config_error>("regularisation of a cap: expected a finite value > 0, got ",
                         options_.regularisation);
    }
    if (options_.rows == 0) check_factor(options_.capacity_factor, outputs);
  }
  template <class Real>
  void check_call(const RouterInput<Real>& in) const {
    impl::refuse_option("threshold", in.options.threshold, "the selection ", kName);
    impl::refuse_option("p", in.options.p, "the selection ", kName);
    if (options_.rows > 0) {
      impl::refuse_option("capacity factor", in.options.capacity_factor, "experts of ", options_.rows,
                          " rows each");
    }
    if (in.options.experts_per_token != 0) {
      fail<config_error>("experts per token: expected none for expert choice (set the capacity factor), got ",
                         in.options.experts_per_token);
    }
  }

  /// Rows that an output takes from a segment of `active` rows.
  static Index capacity(Index active, double factor, Index outputs) noexcept {
    if (active == 0) return 0;
    const auto c = static_cast<Index>(static_cast<double>(active) * factor / static_cast<double>(outputs));
    return std::clamp<Index>(c, 1, active);
  }

  /// sum over segments of N * max(1, T_s * factor / N), or N * rows, and never more than T * N, or T * cap.
  Index max_pairs(const CallShape& shape, Index outputs) const {
    const Index all =
        checked_product("routed pairs", shape.tokens, options_.cap > 0 ? options_.cap : outputs);
    const double least = static_cast<double>((std::min)(shape.segments, shape.tokens)) *
                         static_cast<double>(outputs);  // a row for every expert and segment
    const double bound = options_.rows > 0
                             ? least * static_cast<double>(options_.rows)
                             : least + static_cast<double>(shape.tokens) * factor_of(shape.options, outputs);
    return bound < static_cast<double>(all) ? static_cast<Index>(bound) + 1 : all;
  }

  void measure(Arena& arena, Index tokens, Index outputs) const {
    Scratch{arena, tokens, outputs};
    if (capped(outputs)) impl::CappedPlan{arena, tokens, outputs};
  }

  template <class Real, Executor X>
  void select_set(const SetCall<Real>& set, ExpertId* chosen, Index* count, Arena& arena, X& executor) const {
    const Index tokens = set.choice.rows, n = set.choice.cols;
    const double factor = options_.rows > 0 ? 0 : factor_of(set.call.options, n);
    const Scratch scratch(arena, tokens, n);
    executor.parallel_for(n, [&](Index e, Index) noexcept {
      for (Index t = 0; t < tokens; ++t) scratch.taken[e * tokens + t] = false;
      for (Index s = 0; !capped(n) && s < set.call.segments.count(tokens); ++s) {
        take(set, scratch, e, set.call.segments.begin(s), set.call.segments.end(s, tokens), factor);
      }
    });
    if (capped(n)) take_capped(set, scratch, factor, arena, executor);
    executor.parallel_for(ceil_div(tokens, kTokens), [&](Index block, Index) noexcept {
      for (Index t = block * kTokens; t < tokens && t < (block + 1) * kTokens; ++t) {
        count[t] = 0;
        for (Index e = 0; e < n; ++e) {
          if (scratch.taken[e * tokens + t]) chosen[t * n + count[t]++] = static_cast<ExpertId>(e);
        }
      }
    });
  }

 private:
  static constexpr Index kTokens = 32;  // a worker takes at once

  struct Scratch {
    bool* taken;          // [N, T]
    std::int32_t* order;  // [N, T] candidates of each output
    Scratch(Arena& arena, Index tokens, Index outputs)
        : taken(arena.take<bool>(checked_product("choices", tokens, outputs))),
          order(arena.take<std::int32_t>(tokens * outputs)) {}
  };

  /// A cap of all outputs is none.
  bool capped(Index outputs) const noexcept { return options_.cap > 0 && options_.cap < outputs; }
  void check_factor(double factor, Index outputs) const {
    const Index most = options_.cap > 0 ? options_.cap : outputs;
    if (!(factor > 0 && factor <= static_cast<double>(most))) {
      fail<config_error>("capacity factor: expected a value in (0, ", most,
                         "] (experts per token on average), got ", factor);
    }
  }
  double factor_of(const CallOptions& options, Index outputs) const {
    if (options.capacity_factor == 0) return options_.capacity_factor;
    check_factor(options.capacity_factor, outputs);
    return options.capacity_factor;
  }
  /// C.
  Index places(Index active, double factor, Index outputs) const noexcept {
    return options_.rows > 0 ? (std::min)(options_.rows, active) : capacity(active, factor, outputs);
  }
  template <class Real>
  bool open(const SetCall<Real>& set, Index t, Index e) const noexcept {
    return set.active[t] && !is_neg_inf(set.choice(t, e)) && (!options_.positive || set.score(t, e) > 0);
  }
  template <class Real>
  static Index active_rows(const SetCall<Real>& set, Index first, Index last) noexcept {
    Index active = 0;
    for (Index t = first; t < last; ++t) active += set.active[t] ? 1 : 0;
    return active;
  }

  template <class Real, Executor X>
  void take_capped(const SetCall<Real>& set, const Scratch& scratch, double factor, Arena& arena,
                   X& executor) const {
    const Index tokens = set.choice.rows, n = set.choice.cols;
    const impl::CappedPlan plan(arena, tokens, n);
    executor.parallel_for(set.call.segments.count(tokens), [&](Index s, Index) noexcept {
      const Index first = set.call.segments.begin(s), last = set.call.segments.end(s, tokens);
      plan.choose(
          first, last, places(active_rows(set, first, last), factor, n),
          {options_.cap, options_.regularisation, options_.iterations},
          [&](Index t, Index e) noexcept {
            return open(set, t, e) ? static_cast<double>(set.choice(t, e)) : impl::kMasked<double>;
          },
          [&](Index t, Index e) noexcept { scratch.taken[e * tokens + t] = true; });
    });
  }

  /// Output e's C best rows of [first, last).
  template <class Real>
  void take(const SetCall<Real>& set, const Scratch& scratch, Index e, Index first, Index last,
            double factor) const noexcept {
    const MatrixView<Real>& choice = set.choice;
    std::int32_t* const order = scratch.order + e * choice.rows + first;
    Index candidates = 0;
    for (Index t = first; t < last; ++t) {
      if (open(set, t, e)) order[candidates++] = static_cast<std::int32_t>(t);
    }
    const Index taken = (std::min)(places(active_rows(set, first, last), factor, choice.cols), candidates);
    std::nth_element(order, order + taken, order + candidates, [&choice, e](std::int32_t a, std::int32_t b) {
      const Real of_a = choice(a, e), of_b = choice(b, e);
      return of_a != of_b ? of_a > of_b : a < b;
    });
    for (Index i = 0; i < taken; ++i) scratch.taken[e * choice.rows + order[i]] = true;
  }

  Options options_;
};

MOE_NAMESPACE_END
