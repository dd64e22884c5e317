// Routes as a router does, but at some training steps as the experts' responses say, from which it learns.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/random.hpp"
#include "moe/core/workspace.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/router/concept.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/vector_length.hpp"

MOE_NAMESPACE_BEGIN

/// At which training steps experts compete.
enum class Compete : std::uint8_t {
  drawn,   // one coin for a layer and call, by the call's draws
  always,  // as a schedule of the caller's says: set_compete()
  never,
};

/// How the router is to learn from a competition: q = softmax of its logits, m its target.
struct DistillOptions {
  double coefficient = 0.01;
  bool chosen_only = false;  // m = softmax over the responses of the chosen, 0 else (v1); or over all (v2)
  bool detached = true;      // m is a constant
  bool divergence = false;   // mean over rows of KL(q | m), m at least 1e-6; or of the squares (q - m)^2
  double theta = 0;          // squares: the mean over the chosen once more
};

struct CompetingOptions {
  double rate = 0.05;  // of competition steps
  DistillOptions distill{};
  double diversity = 0.01;  // coefficient: mean over the K x K pairs of chosen experts of the cosines of
                            // their results, an expert with itself counted as 0
};

namespace impl {

/// Of one row, [n] each: the loss without coefficients, and dq, dm.
inline double distill_row(const DistillOptions& options, const double* q, const double* m, const bool* chosen,
                          Index n, Index k, double* dq, double* dm) noexcept {
  constexpr double kLeast = 1e-6;
  double loss = 0;
  for (Index e = 0; e < n; ++e) {
    if (options.divergence) {
      const bool low = m[e] < kLeast;
      const double ratio = q[e] > 0 ? std::log(q[e] / (low ? kLeast : m[e])) : 0;
      loss += q[e] * ratio;
      dq[e] = ratio + 1;
      dm[e] = low ? 0 : -q[e] / m[e];
    } else {
      double share = 1 / static_cast<double>(n);
      if (chosen[e]) share += options.theta / static_cast<double>(k);
      loss += share * (q[e] - m[e]) * (q[e] - m[e]);
      dq[e] = 2 * share * (q[e] - m[e]);
      dm[e] = -dq[e];
    }
  }
  return loss;
}

/// p = softmax of the v_e with `in`, 0 else.
template <class Real>
void masked_softmax(const Real* v, const bool* in, Index n, double* p) noexcept {
  double top = std::numeric_limits<double>::lowest(), sum = 0;
  for (Index e = 0; e < n; ++e) {
    if (in[e] && static_cast<double>(v[e]) > top) top = static_cast<double>(v[e]);
  }
  for (Index e = 0; e < n; ++e) {
    p[e] = in[e] ? std::exp(static_cast<double>(v[e]) - top) : 0;
    sum += p[e];
  }
  for (Index e = 0; e < n; ++e) p[e] /= sum;
}
/// dp becomes dv.
inline void masked_softmax_backward(const double* p, Index n, double* dp) noexcept {
  double mean = 0;
  for (Index e = 0; e < n; ++e) mean += p[e] * dp[e];
  for (Index e = 0; e < n; ++e) dp[e] = p[e] * (dp[e] - mean);
}

}  // namespace impl

/// CompeteSMoE, 2402.02526 (v1) and 2505.13380 (v2): `R`, a TokenChoice, routes, but for some training steps,
/// at which `Competition`, a TokenChoice over the experts' responses (RowScorer), routes instead and R learns
/// what it said: its losses are left out then, and those of the competition, the distillation and the
/// diversity added. Probes of a competition are whole results (WholeResults). A call's mask holds for both
/// routers, its temperature for the choice, not for what R learns.
template <class R, class Competition>
class CompetingRouter {
 public:
  static constexpr const char* kName = "competing";
  using Real = typename R::Real;
  using Scorer = std::remove_cvref_t<decltype(std::declval<const R&>().scorer())>;
  using Gradients = typename R::Gradients;
  using Options = CompetingOptions;
  struct Tape {
    bool competed = false;
    typename R::Tape router;
    typename Competition::Tape competition;
    typename Scorer::Tape scorer;
    Buffer<Real> logits;  // [T, E] of the scorer
    Buffer<bool> learns;  // [T] rows of the distillation
  };

  static constexpr Coupling coupling(bool training) noexcept {
    const Coupling own = R::coupling(training);
    return training ? weakest(own, Competition::coupling(true)) : own;
  }

  static_assert(!CarryingScorer<Scorer>, "moe: the router of a competition hands nothing on");

  /// Throws config_error for a rate outside [0, 1], a coefficient that is not finite, a theta beside a
  /// divergence, a router with noise or whose weights are of the input, and unless both routers have as many
  /// experts as outputs.
  CompetingRouter(R router, Competition competition, const Options& options = {})
      : router_(std::move(router)), competition_(std::move(competition)), options_(checked(options)) {
    require_fit<config_error>();
  }

  R& router() noexcept { return router_; }
  const R& router() const noexcept { return router_; }
  const Competition& competition() const noexcept { return competition_; }
  const Options& options() const noexcept { return options_; }
  Compete compete() const noexcept { return compete_; }
  void set_compete(Compete when) noexcept { compete_ = when; }
  /// v1 and v2 raise it from 0 after a warm-up. Throws config_error outside [0, 1].
  void set_rate(double rate) {
    Options changed = options_;
    changed.rate = rate;
    options_ = checked(changed);
  }

  Index experts() const noexcept { return router_.experts(); }
  Index width() const noexcept { return router_.width(); }
  Index outputs() const noexcept { return router_.outputs(); }
  Index max_pairs(const CallShape& shape) const {
    const Index a = router_.max_pairs(shape), b = competition_.max_pairs(shape);
    return a > b ? a : b;
  }

  /// Whether a call may be a competition, and whether this one is: in training, by the coin. Throws
  /// config_error for a draw without a key.
  bool may_probe(bool training) const noexcept {
    return training && (compete_ == Compete::always || (compete_ == Compete::drawn && options_.rate > 0));
  }
  bool probes(const RouterInput<Real>& in) const {
    if (!may_probe(in.training)) return false;
    if (compete_ == Compete::always || options_.rate == 1) return true;
    in.require_draws("a router whose experts compete at random");
    return in.random(DrawStream::competition).uniform(0, 0) < options_.rate;
  }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    f(role, kName);
    router_.visit_names(role, f);
  }

  void measure(Arena& arena, const CallShape& shape, Index concurrency) const {
    const Index mark = arena.mark();
    router_.measure(arena, shape, concurrency);
    arena.rewind(mark);
    competition_.measure(arena, shape, concurrency);
    arena.rewind(mark);
    take_scratch(arena, shape.tokens, true);
    router_.scorer().measure(arena, shape.tokens, concurrency);
    arena.rewind(mark);
  }
  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    const Index mark = arena.mark();
    router_.measure_backward(arena, shape, concurrency);
    arena.rewind(mark);
    competition_.measure_backward(arena, shape, concurrency);
    arena.rewind(mark);
    take_backward_scratch(arena, shape.tokens);
    router_.scorer().measure_backward(arena, shape.tokens, concurrency);
    arena.rewind(mark);
  }

  template <Executor X>
  void route(const RouterInput<Real>& in, RouteTable<Real>& table, Arena& arena, X& executor) const {
    run(in, table, nullptr, arena, executor);
  }
  template <Executor X>
  void route_train(const RouterInput<Real>& in, RouteTable<Real>& table, Tape& tape, Arena& arena,
                   X& executor) const {
    run(in, table, &tape, arena, executor);
  }

  void check_backward(const RouterInput<Real>& in, const RouteTable<Real>& table, const Tape& tape,
                      const RouteGradients<Real>& out) const {
    require_fit<state_error>();
    if (tape.competed) {
      competition_.check_backward(responses_of(in), table, tape.competition, out);
      impl::taped("the competition", tape.logits, in.tokens() * experts());
    } else {
      router_.check_backward(in, table, tape.router, out);
    }
  }

  template <Executor X>
  void backward(const RouterInput<Real>& in, const RouteTable<Real>& table, const Tape& tape,
                const RouteGradients<Real>& out, Gradients* gradients, Arena& arena, X& executor) const {
    check_backward(in, table, tape, out);
    impl::check_gradients_of(router_, gradients);
    if (!tape.competed) {
      router_.backward(in, table, tape.router, out, gradients, arena, executor);
      return;
    }
    MOE_ASSERT(out.dprobes != nullptr);
    RouteGradients<Real> own = out;
    own.dx = out.dprobes->response;
    own.dprobes = nullptr;
    const Index mark = arena.mark();
    competition_.backward(responses_of(in), table, tape.competition, own, nullptr, arena, executor);
    arena.rewind(mark);
    if (out.auxiliary_scale == 0) return;
    const Index n = experts(), tokens = in.tokens();
    const Scratch scratch = take_backward_scratch(arena, tokens);
    const MatrixView<Real> dlogits(scratch.logits, tokens, n);
    fill_row(Real{0}, scratch.logits, tokens * n);
    const MatrixView<Real> logits(const_cast<Real*>(tape.logits.data()), tokens, n);
    Index learning = 0, active = 0;
    for (Index t = 0; t < tokens; ++t) {
      if (tape.learns[t]) scratch.rows[learning++] = static_cast<std::int32_t>(t);
      if (table.count(t) > 0) ++active;
    }
    const double distil = out.auxiliary_scale * options_.distill.coefficient / static_cast<double>(learning);
    for (Index a = 0; a < learning; ++a) {
      const Index t = scratch.rows[a];
      distill(in, table, logits, t, scratch);
      impl::masked_softmax_backward(scratch.q, n, scratch.dq);
      for (Index e = 0; e < n; ++e) dlogits(t, e) = static_cast<Real>(distil * scratch.dq[e]);
      if (options_.distill.detached) continue;
      impl::masked_softmax_backward(scratch.m, n, scratch.dm);
      for (Index e = 0; e < n; ++e) out.dprobes->response(t, e) += static_cast<Real>(distil * scratch.dm[e]);
    }
    const double apart = out.auxiliary_scale * options_.diversity / static_cast<double>(active);
    for (Index t = 0; options_.diversity != 0 && t < tokens; ++t) {
      for_each_two(table, t, [&](Index i, Index j, Index k) {
        const Index d = in.probes.width;
        const Cosine of(in.probes, t, i, j);
        const auto both = static_cast<Real>(2 * apart / static_cast<double>(k * k));
        of.backward(both, out.dprobes->of(t, i), out.dprobes->of(t, j), d);
      });
    }
    Logits<Real> back{dlogits};
    back.rows = scratch.rows;
    back.row_count = learning;
    router_.scorer().backward(in, tape.scorer, back, out.dx,
                              gradients == nullptr ? nullptr : &gradients->scorer, arena, executor);
    arena.rewind(mark);
  }

  Gradients make_gradients() const { return router_.make_gradients(); }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    router_.visit_parameters(gradients, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    router_.visit_storage(gradients, f);
  }
  template <class Visitor>
  void visit_state(Visitor& f) {
    router_.visit_state(f);
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    router_.visit_state(f);
  }
  void on_step_end(const RouteStats& stats) { router_.on_step_end(stats); }

 private:
  struct Scratch {
    Real* logits = nullptr;        // [T, E], unless on a tape
    bool* spoiled = nullptr;       // [T]
    bool* learns = nullptr;        // [T], unless on a tape
    std::int32_t* rows = nullptr;  // [T]
    double *q, *m, *dq, *dm;       // [E]
    bool *open, *chosen;           // [E]
  };
  /// Of the results of two experts; of one that is 0 with another 0, and constant.
  struct Cosine {
    const Real *a, *b;
    Real la, lb, value;
    Cosine(const Probes<Real>& results, Index t, Index i, Index j)
        : a(results.of(t, i)),
          b(results.of(t, j)),
          la(impl::length_of(a, results.width)),
          lb(impl::length_of(b, results.width)),
          value(none() ? Real{0} : dot(a, b, results.width) / la / lb) {}
    bool none() const noexcept {
      const auto least = static_cast<Real>(impl::kShortestLength);
      return la <= least || lb <= least;
    }
    void backward(Real d, Real* da, Real* db, Index n) const noexcept {
      if (none()) return;
      axpy_row(d / la / lb, b, da, n);
      axpy_row(-d * value / la / la, a, da, n);
      axpy_row(d / la / lb, a, db, n);
      axpy_row(-d * value / lb / lb, b, db, n);
    }
  };

  Scratch take_scratch(Arena& arena, Index tokens, bool untaped) const {
    Scratch scratch = take_rows(arena);
    scratch.spoiled = arena.take<bool>(tokens);
    if (untaped) scratch.logits = arena.take<Real>(checked_product("logits", tokens, experts()));
    if (untaped) scratch.learns = arena.take<bool>(tokens);
    return scratch;
  }
  Scratch take_backward_scratch(Arena& arena, Index tokens) const {
    Scratch scratch = take_rows(arena);
    scratch.rows = arena.take<std::int32_t>(tokens);
    scratch.logits = arena.take<Real>(checked_product("logits", tokens, experts()));
    return scratch;
  }
  Scratch take_rows(Arena& arena) const {
    Scratch scratch;
    for (double** row : {&scratch.q, &scratch.m, &scratch.dq, &scratch.dm})
      *row = arena.take<double>(experts());
    for (bool** row : {&scratch.open, &scratch.chosen}) *row = arena.take<bool>(experts());
    return scratch;
  }

  static const Options& checked(const Options& options) {
    if (!(options.rate >= 0 && options.rate <= 1)) {
      fail<config_error>("competition rate: expected a value in [0, 1], got ", options.rate);
    }
    for (const double value : {options.distill.coefficient, options.distill.theta, options.diversity}) {
      if (!is_finite(value)) {
        fail<config_error>("coefficients of a competition: expected finite values, got ", value);
      }
    }
    if (options.distill.divergence && options.distill.theta != 0) {
      fail<config_error>("theta: expected 0 beside a divergence, got ", options.distill.theta);
    }
    return options;
  }

  template <class Error>
  void require_fit() const {
    if (impl::is_noisy(router_.scorer()) || impl::weight_place(router_) != WeightPlace::result) {
      fail<Error>("competition: expected a router without noise, whose weights are of the results, got one ",
                  impl::is_noisy(router_.scorer()) ? "with noise" : "of weights of the input");
    }
    if (router_.experts() == router_.outputs() && competition_.experts() == experts() &&
        competition_.outputs() == experts() && competition_.width() == experts()) {
      return;
    }
    fail<Error>("competition: expected a router without null experts and a competition of its ", experts(),
                " experts, that reads a column for each, got one of ", competition_.experts(), " and ",
                competition_.width(), " columns");
  }

  RouterInput<Real> responses_of(const RouterInput<Real>& in) const {
    require_shape("responses", in.probes.response, in.tokens(), experts());
    RouterInput<Real> own = in;
    own.x = in.probes.response;
    own.probes = {};
    return own;
  }

  template <Executor X>
  void run(const RouterInput<Real>& in, RouteTable<Real>& table, Tape* tape, Arena& arena,
           X& executor) const {
    require_fit<state_error>();
    const bool competes = static_cast<bool>(in.probes);
    if (tape != nullptr) tape->competed = competes;
    if (!competes) {
      if (tape != nullptr) return router_.route_train(in, table, tape->router, arena, executor);
      return router_.route(in, table, arena, executor);
    }
    const Index mark = arena.mark();
    if (tape != nullptr) {
      competition_.route_train(responses_of(in), table, tape->competition, arena, executor);
    } else {
      competition_.route(responses_of(in), table, arena, executor);
    }
    arena.rewind(mark);
    Scratch scratch = take_scratch(arena, in.tokens(), tape == nullptr);
    if (tape != nullptr) {
      scratch.logits = tape->logits.resize(in.tokens() * experts());
      scratch.learns = tape->learns.resize(in.tokens());
    }
    const MatrixView<Real> logits(scratch.logits, in.tokens(), experts());
    impl::check_call_of(router_.scorer(), in);
    router_.scorer().logits(in, Logits<Real>{logits}, tape == nullptr ? nullptr : &tape->scorer, arena,
                            executor);
    for (Index t = 0; in.logit_mask && t < in.tokens(); ++t)
      add_row(in.mask_row(t), logits.row(t), experts());
    impl::check_logit_rows(in, logits, router_.non_finite(), scratch.spoiled, scratch.learns);
    double distilled = 0, alike = 0;
    Index learning = 0, active = 0;
    for (Index t = 0; t < in.tokens(); ++t) {
      scratch.learns[t] = scratch.learns[t] && table.count(t) > 0;
      if (table.count(t) == 0) continue;
      ++active;
      for_each_two(table, t, [&](Index i, Index j, Index k) {
        const Cosine of(in.probes, t, i, j);
        alike += 2 * static_cast<double>(of.value) / static_cast<double>(k * k);
      });
      if (!scratch.learns[t]) continue;
      ++learning;
      distilled += distill(in, table, logits, t, scratch);
    }
    table.losses.add(
        "distillation",
        learning == 0 ? 0.0 : options_.distill.coefficient * distilled / static_cast<double>(learning));
    if (options_.diversity != 0) {
      table.losses.add("diversity",
                       active == 0 ? 0.0 : options_.diversity * alike / static_cast<double>(active));
    }
    arena.rewind(mark);
  }

  /// f(expert, expert, K) for every two that row t chose.
  template <class F>
  static void for_each_two(const RouteTable<Real>& table, Index t, const F& f) {
    for (Index a = table.offsets[t]; a < table.offsets[t + 1]; ++a) {
      for (Index b = a + 1; b < table.offsets[t + 1]; ++b)
        f(Index{table.expert[a]}, Index{table.expert[b]}, table.count(t));
    }
  }

  /// Loss of row t; q, m, dq, dm of the scratch.
  double distill(const RouterInput<Real>& in, const RouteTable<Real>& table, const MatrixView<Real>& logits,
                 Index t, const Scratch& scratch) const noexcept {
    const Index n = experts();
    for (Index e = 0; e < n; ++e) {
      scratch.open[e] = !is_neg_inf(logits(t, e));
      scratch.chosen[e] = false;
    }
    for (Index p = table.offsets[t]; p < table.offsets[t + 1]; ++p) scratch.chosen[table.expert[p]] = true;
    impl::masked_softmax(logits.row(t), scratch.open, n, scratch.q);
    impl::masked_softmax(in.probes.response.row(t),
                         options_.distill.chosen_only ? scratch.chosen : scratch.open, n, scratch.m);
    return impl::distill_row(options_.distill, scratch.q, scratch.m, scratch.chosen, n, table.count(t),
                             scratch.dq, scratch.dm);
  }

  R router_;
  Competition competition_;
  Options options_;
  Compete compete_ = Compete::drawn;
};

MOE_NAMESPACE_END
