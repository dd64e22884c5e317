// Expert choice: every expert takes the C tokens of a segment that score highest on it; a token may get 0 to
// E experts. Weights are the raw softmax entries; no loss is needed. Zhou et al. 2202.09368.
#pragma once

#include <algorithm>
#include <cmath>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/kernel/softmax.hpp"
#include "moe/router/concept.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/scorer/linear.hpp"

MOE_NAMESPACE_BEGIN

/// C = round down of (active tokens of the segment) * factor / E, at least 1: `factor` is the average number
/// of experts per token. Equal scores: the lower token first. Not causal: a token's experts depend on the
/// tokens after it in its segment.
template <class RealType>
class ExpertChoice {
 public:
  using Real = RealType;
  using Gradients = typename LinearScorer<Real>::Gradients;
  struct Options {
    Index width = 0;    // D
    Index experts = 0;  // E
    double capacity_factor = 2;
    NonFinite non_finite = NonFinite::throw_;
  };
  struct Tape {
    typename LinearScorer<Real>::Tape scorer;
    Buffer<Real> probability;  // [T, E]
  };

  static constexpr Coupling coupling(bool) noexcept { return Coupling::per_segment; }

  /// Throws config_error unless 0 < capacity_factor <= E.
  explicit ExpertChoice(Options options)
      : options_(options), scorer_({options.width, options.experts, false, 0}) {
    check_factor(options.capacity_factor);
  }

  Index experts() const noexcept { return scorer_.outputs(); }
  Index width() const noexcept { return scorer_.width(); }
  LinearScorer<Real>& scorer() noexcept { return scorer_; }
  void set_non_finite(NonFinite policy) noexcept { options_.non_finite = policy; }

  /// Tokens an expert takes from a segment of `active` tokens.
  Index capacity(Index active, double factor) const noexcept {
    if (active == 0) return 0;
    const auto c = static_cast<Index>(static_cast<double>(active) * factor / static_cast<double>(experts()));
    return std::clamp<Index>(c, 1, active);
  }

  /// sum over segments of E * max(1, T_s * factor / E), and never more than T * E.
  Index max_pairs(const CallShape& shape) const {
    const double factor = factor_of(shape.options);
    const Index all = checked_product("routed pairs", shape.tokens, experts());
    const double bound =
        static_cast<double>(shape.tokens) * factor +
        static_cast<double>(std::min(shape.segments, shape.tokens)) * static_cast<double>(experts());
    return bound < static_cast<double>(all) ? static_cast<Index>(bound) + 1 : all;
  }

  void measure(Arena& arena, const CallShape& shape, Index concurrency) const {
    Scratch{arena, shape.tokens, experts()};
    scorer_.measure(arena, shape.tokens, concurrency);
  }
  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    BackwardScratch{arena, shape.tokens, experts()};
    scorer_.measure_backward(arena, shape.tokens, concurrency);
  }

  /// Throws as token-choice routers do for non-finite logits; config_error for a factor beyond E.
  template <Executor X>
  void route(const RouterInput<Real>& in, RouteTable<Real>& table, Arena& arena, X& executor) const {
    run(in, table, nullptr, arena, executor);
  }
  template <Executor X>
  void route_train(const RouterInput<Real>& in, RouteTable<Real>& table, Tape& tape, Arena& arena,
                   X& executor) const {
    run(in, table, &tape, arena, executor);
  }

  /// The taken entries have gradient dweight; the softmax passes it to all logits of their token.
  template <Executor X>
  void backward(const RouterInput<Real>& in, const RouteTable<Real>& table, const Tape& tape,
                const RouteGradients<Real>& out, Gradients* gradients, Arena& arena, X& executor) const {
    const Index n = experts();
    const BackwardScratch d(arena, in.tokens(), n);
    fill_row(Real{0}, d.logit, in.tokens() * n);
    executor.parallel_for(ceil_div(in.tokens(), kTokens), [&](Index block, Index) noexcept {
      for (Index t = block * kTokens; t < in.tokens() && t < (block + 1) * kTokens; ++t) {
        if (table.count(t) == 0) continue;
        Real* const dscore = d.score + t * n;
        fill_row(Real{0}, dscore, n);
        for (Index p = table.offsets[t]; p < table.offsets[t + 1]; ++p)
          dscore[table.expert[p]] = out.dweight[p];
        softmax_backward_row(tape.probability.data() + t * n, dscore, d.logit + t * n, n);
      }
    });
    Logits<Real> dlogits;
    dlogits.value = MatrixView<Real>(d.logit, in.tokens(), n);
    dlogits.rows = d.rows;
    for (Index t = 0; t < in.tokens(); ++t) {
      if (table.count(t) > 0) d.rows[dlogits.row_count++] = static_cast<std::int32_t>(t);
    }
    scorer_.backward(in, tape.scorer, dlogits, out.dx, gradients, arena, executor);
  }

  void on_step_end(const RouteStats&) noexcept {}
  Gradients make_gradients() const { return scorer_.make_gradients(); }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    scorer_.visit_parameters(gradients, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    scorer_.visit_storage(gradients, f);
  }
  template <class Visitor>
  void visit_state(Visitor&) noexcept {}

 private:
  static constexpr Index kTokens = 32;  // a worker takes at once

  struct Scratch {
    Real* score;          // [T, E]
    bool* active;         // [T]
    bool* taken;          // [T, E]
    std::int32_t* order;  // [E, T] candidates of each expert
    Scratch(Arena& arena, Index tokens, Index experts)
        : score(arena.take<Real>(checked_product("logits", tokens, experts))),
          active(arena.take<bool>(tokens)),
          taken(arena.take<bool>(tokens * experts)),
          order(arena.take<std::int32_t>(tokens * experts)) {}
  };
  struct BackwardScratch {
    Real* logit;         // [T, E]
    Real* score;         // [T, E]
    std::int32_t* rows;  // [T] with an expert; no other has a gradient
    BackwardScratch(Arena& arena, Index tokens, Index experts)
        : logit(arena.take<Real>(checked_product("logits", tokens, experts))),
          score(arena.take<Real>(tokens * experts)),
          rows(arena.take<std::int32_t>(tokens)) {}
  };

  void check_factor(double factor) const {
    if (!(factor > 0 && factor <= static_cast<double>(experts()))) {
      fail<config_error>("capacity factor: expected a value in (0, ", experts(),
                         "] (experts per token on average), got ", factor);
    }
  }
  double factor_of(const CallOptions& options) const {
    if (options.capacity_factor == 0) return options_.capacity_factor;
    check_factor(options.capacity_factor);
    return options.capacity_factor;
  }

  template <Executor X>
  void run(const RouterInput<Real>& in, RouteTable<Real>& table, Tape* tape, Arena& arena,
           X& executor) const {
    const Index tokens = in.tokens(), n = experts();
    const double factor = factor_of(in.options);
    if (!in.logit_mask.empty()) require_extent("logit_mask", "columns", n, in.logit_mask.cols);
    if (in.options.experts_per_token != 0) {
      fail<config_error>("experts per token: expected none for expert choice (set the capacity factor), got ",
                         in.options.experts_per_token);
    }
    const Scratch s(arena, tokens, n);
    const MatrixView<Real> score(s.score, tokens, n);
    Logits<Real> logits;
    logits.value = score;
    scorer_.logits(in, logits, tape == nullptr ? nullptr : &tape->scorer, arena, executor);
    if (!in.logit_mask.empty()) {
      for (Index t = 0; t < tokens; ++t) add_row(in.mask_row(t), score.row(t), n);
    }
    impl::check_logit_rows(in, score, options_.non_finite, table.spoiled, s.active);
    executor.parallel_for(ceil_div(tokens, kTokens), [&](Index block, Index) noexcept {
      for (Index t = block * kTokens; t < tokens && t < (block + 1) * kTokens; ++t) {
        if (s.active[t]) softmax_row(score.row(t), score.row(t), n);
        for (Index e = 0; e < n; ++e) s.taken[t * n + e] = false;
      }
    });
    executor.parallel_for(n, [&](Index e, Index) noexcept {
      for (Index segment = 0; segment < in.segments.count(tokens); ++segment) {
        take(score, s, e, in.segments.begin(segment), in.segments.end(segment, tokens), factor);
      }
    });
    for (Index t = 0; t < tokens; ++t) {
      table.begin_token(t);
      for (Index e = 0; e < n; ++e) {
        if (s.taken[t * n + e]) table.push(t, static_cast<ExpertId>(e), score(t, e));
      }
    }
    if (tape != nullptr) tape->probability.copy_from(s.score, tokens * n);
  }

  /// Expert e's C best tokens of rows [first, last). A masked entry (probability 0) is never taken.
  void take(const MatrixView<Real>& score, const Scratch& s, Index e, Index first, Index last,
            double factor) const noexcept {
    std::int32_t* const order = s.order + e * score.rows + first;
    Index active = 0, candidates = 0;
    for (Index t = first; t < last; ++t) {
      active += s.active[t] ? 1 : 0;
      if (s.active[t] && score(t, e) > 0) order[candidates++] = static_cast<std::int32_t>(t);
    }
    const Index taken = std::min(capacity(active, factor), candidates);
    std::nth_element(order, order + taken, order + candidates, [&score, e](std::int32_t a, std::int32_t b) {
      const Real of_a = score(a, e), of_b = score(b, e);
      return of_a != of_b ? of_a > of_b : a < b;
    });
    for (Index i = 0; i < taken; ++i) s.taken[Index{order[i]} * score.cols + e] = true;
  }

  Options options_;
  LinearScorer<Real> scorer_;
};

MOE_NAMESPACE_END
