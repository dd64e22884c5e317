// The k best of a transport plan in training, in which every output has the same share of the batch; the k
// best choice scores of each row alone in inference. S-BASE: Clark et al. 2202.01169; some calls only:
// Selective Sinkhorn Routing.
#pragma once

#include <algorithm>
#include <cstdint>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/random.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/kernel/top_k.hpp"
#include "moe/router/selection/concept.hpp"
#include "moe/router/sinkhorn.hpp"

MOE_NAMESPACE_BEGIN

/// What a plan follows.
enum class PlanCost : std::uint8_t { logit, score };
/// What the weighting reads in a call that goes by the plan.
enum class PlanWeights : std::uint8_t {
  scores,         // the scores: the plan only chooses
  plan,           // the plan, as a constant: nothing that it comes from learns
  plan_unrolled,  // the plan, its gradient through all iterations
};

/// The plan is that of z = (cost + noise) / regularisation (router/sinkhorn.hpp), over the active rows of the
/// batch, whatever its segments; chosen are the k highest of each row of it, ties to the lower id. A
/// selection bias counts where there is no plan.
class SinkhornTopK {
 public:
  static constexpr const char* kName = "sinkhorn_top_k";
  struct Options {
    Index k = 1;
    PlanCost cost = PlanCost::logit;
    double regularisation = 1;  // xi: towards 0 the plan is an assignment
    double tolerance = 1e-4;    // of column sums, relative
    Index iterations = 100;     // at most
    double share = 1;           // of the training calls that go by the plan: a coin for each call
    double noise = 0;           // standard deviation of a normal draw on every cost
    PlanWeights weights = PlanWeights::scores;
  };

  static constexpr Coupling coupling(bool training) noexcept {
    return training ? Coupling::per_batch : Coupling::row_independent;
  }

  /// Throws config_error for k or iterations < 1, a regularisation that is not > 0, a tolerance or noise that
  /// is not >= 0, or a share outside [0, 1].
  explicit SinkhornTopK(Options options) : options_(options) {
    require_range("experts per token", options.k, 1, INT32_MAX);
    require_range("Sinkhorn iterations", options.iterations, 1, INT32_MAX);
    if (!(options.regularisation > 0 && is_finite(1 / options.regularisation) &&
          is_finite(options.regularisation))) {
      fail<config_error>("Sinkhorn regularisation: expected a finite value > 0, got ",
                         options.regularisation);
    }
    if (!(options.tolerance >= 0 && is_finite(options.tolerance))) {
      fail<config_error>("Sinkhorn tolerance: expected a finite value >= 0, got ", options.tolerance);
    }
    if (!(options.share >= 0 && options.share <= 1)) {
      fail<config_error>("share of calls by the plan: expected a value in [0, 1], got ", options.share);
    }
    if (!(options.noise >= 0 && is_finite(options.noise))) {
      fail<config_error>("Sinkhorn noise: expected a finite value >= 0, got ", options.noise);
    }
  }
  const Options& options() const noexcept { return options_; }

  template <class Real>
  void check_call(const RouterInput<Real>& in) const {
    impl::refuse_option("threshold", in.options.threshold, "the selection ", kName);
    impl::refuse_option("p", in.options.p, "the selection ", kName);
    impl::refuse_option("capacity factor", in.options.capacity_factor, "the selection ", kName);
    const bool draws = options_.share > 0 && (options_.share < 1 || options_.noise > 0);
    if (draws && in.training) in.require_draws("a router with selective or noisy Sinkhorn plans");
  }

  Index max_pairs(const CallShape& shape, Index outputs) const {
    return checked_product(
        "routed pairs", shape.tokens,
        impl::experts_per_token(options_.k, shape.options, outputs, "the router's outputs"));
  }
  void measure(Arena& arena, Index tokens, Index outputs) const {
    Scratch(arena, *this, tokens, outputs, nullptr);
  }

  template <class Real, Executor X>
  void select_set(const SetCall<Real>& set, ExpertId* chosen, Index* count, Arena& arena, X& executor) const {
    const Index tokens = set.choice.rows, n = set.choice.cols;
    const Index asked = set.call.options.experts_per_token, k = asked == 0 ? options_.k : asked;
    const Scratch s(arena, *this, tokens, n, set.kept);  // as measured, with a plan or without
    if (!by_plan(set.call)) {
      executor.parallel_for(ceil_div(tokens, kTokens), [&](Index block, Index) noexcept {
        for (Index t = block * kTokens; t < tokens && t < (block + 1) * kTokens; ++t) {
          count[t] = set.active[t] ? choose(set.choice.row(t), n, k, chosen + t * n) : 0;
          if (set.active[t] && !set.plan.empty()) copy_row(set.score.row(t), set.plan.row(t), n);
        }
      });
      if (set.kept != nullptr) set.kept[0] = -1;
      return;
    }
    const Index rows = s.list(set.active, tokens);
    for (Index r = 0; r < rows; ++r) cost(set, s.row[r], s.z + r * n);
    const Index stride = unrolls() ? n : 0;
    const Index iterations =
        s.sinkhorn.run(s.z, rows, n, options_.tolerance, options_.iterations, s.g, stride, executor);
    if (set.kept != nullptr) set.kept[0] = static_cast<double>(iterations);
    const double* const g = s.g + iterations * stride;
    for (Index t = 0; t < tokens; ++t) count[t] = 0;
    executor.parallel_for(ceil_div(rows, kTokens), [&](Index block, Index) noexcept {
      for (Index r = block * kTokens; r < rows && r < (block + 1) * kTokens; ++r) {
        const Index t = s.row[r];
        double* const z = s.z + r * n;
        double* const p = s.p + r * n;
        for (Index e = 0; e < n; ++e) p[e] = z[e] + g[e];
        count[t] = choose(p, n, k, chosen + t * n);  // in logarithms, which do not underflow
        if (set.plan.empty()) continue;
        Sinkhorn::plan_row(z, g, p, n);
        for (Index e = 0; e < n; ++e) set.plan(t, e) = static_cast<Real>(p[e]);
      }
    });
  }

  bool plans() const noexcept { return options_.weights != PlanWeights::scores; }
  /// The number of iterations, -1 without a plan; then, if they are unrolled, what they came by.
  Index kept(Index tokens, Index outputs) const {
    if (!unrolls()) return 1;
    return 1 + checked_product("plan", tokens + options_.iterations + 1, outputs);
  }
  void measure_backward(Arena& arena, Index tokens, Index outputs) const {
    if (unrolls()) Scratch(arena, *this, tokens, outputs, nullptr);
  }

  template <class Real, Executor X>
  void plan_backward(const SetCall<Real>& set, const MatrixView<Real>& dplan, const MatrixView<Real>& dscore,
                     const MatrixView<Real>& dlogit, Arena& arena, X& executor) const {
    const Index tokens = set.score.rows, n = set.score.cols;
    if (set.kept[0] < 0) {
      for (Index t = 0; t < tokens; ++t) add_row(dplan.row(t), dscore.row(t), n);
      return;
    }
    if (!unrolls()) return;
    const Scratch s(arena, *this, tokens, n, set.kept);
    const Index rows = s.list(set.active, tokens);
    for (Index r = 0; r < rows; ++r) {
      for (Index e = 0; e < n; ++e) s.p[r * n + e] = static_cast<double>(dplan(s.row[r], e));
    }
    s.sinkhorn.backward(s.z, rows, n, s.g, static_cast<Index>(set.kept[0]), s.p, executor);
    const MatrixView<Real>& out = options_.cost == PlanCost::logit ? dlogit : dscore;
    for (Index r = 0; r < rows; ++r) {
      for (Index e = 0; e < n; ++e) {
        out(s.row[r], e) += static_cast<Real>(s.p[r * n + e] / options_.regularisation);
      }
    }
  }

 private:
  static constexpr Index kTokens = 32;  // a worker takes at once
  static constexpr std::uint32_t kCoin = 0xFFFFFFFF;

  struct Scratch {
    double* z;          // [T, N] of the active rows
    double* g;          // [N], or [iterations + 1, N] if they are unrolled
    double* p;          // [T, N] plan, or its gradient
    std::int32_t* row;  // [T] active ones
    Sinkhorn sinkhorn;
    /// `kept`: where z and g lie if they are unrolled; null while it is measured.
    Scratch(Arena& arena, const SinkhornTopK& of, Index tokens, Index outputs, double* kept)
        : z(of.unrolls() ? at(kept, 1) : arena.take<double>(checked_product("plan", tokens, outputs))),
          g(of.unrolls() ? at(kept, 1 + tokens * outputs) : arena.take<double>(outputs)),
          p(arena.take<double>(checked_product("plan", tokens, outputs))),
          row(arena.take<std::int32_t>(tokens)),
          sinkhorn(arena, tokens, outputs) {}
    static double* at(double* kept, Index i) noexcept { return kept == nullptr ? nullptr : kept + i; }

    Index list(const bool* active, Index tokens) const noexcept {
      Index rows = 0;
      for (Index t = 0; t < tokens; ++t) {
        if (active[t]) row[rows++] = static_cast<std::int32_t>(t);
      }
      return rows;
    }
  };

  bool unrolls() const noexcept { return options_.weights == PlanWeights::plan_unrolled; }
  template <class Real>
  bool by_plan(const RouterInput<Real>& in) const noexcept {
    if (!in.training || options_.share == 0) return false;
    return options_.share == 1 || in.random(DrawStream::transport).uniform(0, kCoin) < options_.share;
  }

  template <class Real>
  static Index choose(const Real* score, Index n, Index k, ExpertId* chosen) noexcept {
    top_k_row(score, n, k, chosen);
    return impl::without_masked(score, chosen, k);
  }

  /// z of row t.
  template <class Real>
  void cost(const SetCall<Real>& set, Index t, double* z) const noexcept {
    const ConstMatrixView<Real>& of = options_.cost == PlanCost::logit ? set.logit : set.score;
    for (Index e = 0; e < of.cols; ++e) {
      double c = static_cast<double>(of(t, e));
      if (options_.noise > 0) {
        c += options_.noise *
             set.call.random(DrawStream::transport).normal(set.call.key(t), static_cast<std::uint32_t>(e));
      }
      // Bounded, so that sums with potentials stay finite.
      z[e] = is_neg_inf(set.logit(t, e)) ? impl::kMasked<double>
                                         : std::clamp(c / options_.regularisation, -1e300, 1e300);
    }
  }

  Options options_;
};

MOE_NAMESPACE_END
