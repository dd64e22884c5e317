// Stage 1/5 route, token-choice form. In: RouterInput. Out: RouteTable. Next: moe/plan/dispatch_plan.hpp
// Router = scorer > score function > selection > weighting, plus balancing. Every token chooses for itself;
// named routers are aliases of this composition (router/named/top_k.hpp and its neighbours).
#pragma once

#include <cstdint>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/random.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/router/balance/concept.hpp"
#include "moe/router/concept.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/score/concept.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/selection/concept.hpp"
#include "moe/router/weighting/concept.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// What a token-choice router forms on the way to its table. N outputs, M room for choices per token.
template <class Real>
struct TokenChoiceArrays {
  Logits<Real> logits;            // [T, N]
  MatrixView<Real> score;         // [T, N]
  MatrixView<Real> probability;   // [T, N]; empty unless a loss needs it
  ExpertId* chosen = nullptr;     // [T, M]
  Index* chosen_count = nullptr;  // [T]
  Real* weight = nullptr;         // [T, M]
  bool* keep = nullptr;           // [T, M] routed to a real expert
  bool* active = nullptr;         // [T]
  Index most = 0;                 // M

  static MatrixView<Real> matrix(Arena& arena, Index rows, Index cols) {
    Real* const data = arena.take<Real>(checked_product("logits", rows, cols));
    MatrixView<Real> view;
    view.data = data;
    view.rows = rows;
    view.cols = view.stride = cols;
    return view;
  }

  static TokenChoiceArrays carve(Arena& arena, Index tokens, Index outputs, Index most, bool noisy,
                                 bool probability) {
    TokenChoiceArrays a;
    a.logits.value = matrix(arena, tokens, outputs);
    if (noisy) {
      a.logits.clean = matrix(arena, tokens, outputs);
      a.logits.noise_scale = matrix(arena, tokens, outputs);
    }
    a.score = matrix(arena, tokens, outputs);
    if (probability) a.probability = matrix(arena, tokens, outputs);
    a.chosen = arena.take<ExpertId>(checked_product("choices", tokens, most));
    a.chosen_count = arena.take<Index>(tokens);
    a.weight = arena.take<Real>(tokens * most);
    a.keep = arena.take<bool>(tokens * most);
    a.active = arena.take<bool>(tokens);
    a.most = most;
    return a;
  }
};

}  // namespace impl

/// A router in which a token's route depends on that token alone (contract C1); losses look at the whole
/// batch. `Balance` is a Balancing<...>.
template <Scorer S, ScoreFunction F, class Select, Weighting W, class Balance = Balancing<>>
requires(Selection<Select> || TokenSelection<Select>) class TokenChoice {
 public:
  using Real = typename S::Real;
  using Gradients = typename S::Gradients;
  struct Tape {
    typename S::Tape scorer;
    Workspace memory;
    impl::TokenChoiceArrays<Real> arrays{};
  };

  static constexpr Coupling coupling(bool) noexcept { return Coupling::row_independent; }

  /// Throws config_error if the parts do not fit together.
  TokenChoice(S scorer, F score, Select selection, W weighting, Balance balance = Balance{},
              NonFinite non_finite = NonFinite::throw_)
      : scorer_(std::move(scorer)),
        score_(std::move(score)),
        selection_(std::move(selection)),
        weighting_(std::move(weighting)),
        balance_(std::move(balance)),
        non_finite_(non_finite) {
    if (experts() < 1) fail<config_error>("experts: expected E >= 1, got ", experts());
    static_cast<void>(selection_.most(0, outputs()));
    balance_.check(outputs());
  }

  Index experts() const noexcept { return weighting_.experts(outputs()); }
  /// N: columns of the logits, null experts included.
  Index outputs() const noexcept { return scorer_.outputs(); }
  Index width() const noexcept { return scorer_.width(); }
  Index max_pairs(const CallShape& shape) const {
    return checked_product("routed pairs", shape.tokens,
                           selection_.most(shape.options.experts_per_token, outputs()));
  }

  S& scorer() noexcept { return scorer_; }
  const S& scorer() const noexcept { return scorer_; }
  Balance& balancing() noexcept { return balance_; }
  const Balance& balancing() const noexcept { return balance_; }
  void set_non_finite(NonFinite policy) noexcept { non_finite_ = policy; }
  WeightPlace weight_place() const noexcept { return weight_place_; }
  void set_weight_place(WeightPlace place) noexcept { weight_place_ = place; }

  void measure(Arena& arena, const CallShape& shape, Index concurrency) const {
    carve(arena, shape.tokens, shape.options, true);
    measure_work(arena, shape.tokens, concurrency);
  }

  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    BackwardScratch{arena, shape.tokens, outputs(), most(shape.options), S::kNoisy, balance_.has_loss()};
    const Index mark = arena.mark();
    balance_.measure(arena, shape.tokens, outputs());
    arena.rewind(mark);
    scorer_.measure_backward(arena, shape.tokens, concurrency);
  }

  /// Throws numeric_error naming token and expert for NaN, +inf or an all-masked row (unless isolated),
  /// config_error for a K beyond N or outside counts beside null experts, shape_error for a mask of
  /// another width.
  template <Executor X>
  void route(const RouterInput<Real>& in, RouteTable<Real>& table, Arena& arena, X& executor) const {
    check(in);
    const auto arrays = carve(arena, in.tokens(), in.options, in.training);
    run(in, table, arrays, nullptr, arena, executor);
  }

  template <Executor X>
  void route_train(const RouterInput<Real>& in, RouteTable<Real>& table, Tape& tape, Arena& arena,
                   X& executor) const {
    check(in);
    Arena measuring;
    carve(measuring, in.tokens(), in.options, in.training);
    Arena kept = tape.memory.arena(measuring.bytes());
    tape.arrays = carve(kept, in.tokens(), in.options, in.training);
    run(in, table, tape.arrays, &tape.scorer, arena, executor);
  }

  template <Executor X>
  void backward(const RouterInput<Real>& in, const RouteTable<Real>& table, const Tape& tape,
                const RouteGradients<Real>& out, Gradients* gradients, Arena& arena, X& executor) const {
    const auto& a = tape.arrays;
    const bool losses = in.training && balance_.has_loss() && out.auxiliary_scale != 0;
    const BackwardScratch d(arena, in.tokens(), outputs(), a.most, S::kNoisy, balance_.has_loss());
    d.zero();
    Index active = 0;
    for (Index t = 0; t < in.tokens(); ++t) {  // gradients of the table's pairs, back at their choices
      if (a.active[t]) d.rows[active++] = static_cast<std::int32_t>(t);
      Index p = table.offsets[t];
      for (Index i = t * a.most; i < t * a.most + a.chosen_count[t]; ++i) {
        if (a.keep[i]) d.weight[i] = out.dweight[p++];
      }
    }
    if (losses) {
      const Index mark = arena.mark();
      balance_.backward(balance_input(in, a), out.auxiliary_scale,
                        BalanceGradients<Real>{d.logits.value, d.logits.clean, d.logits.noise_scale, d.score,
                                               d.probability, d.weight},
                        arena);
      arena.rewind(mark);
    }
    executor.parallel_for(blocks(in.tokens()), [&](Index block, Index) noexcept {
      for (Index t = block * kTokens; t < in.tokens() && t < (block + 1) * kTokens; ++t) {
        if (!a.active[t]) continue;
        weighting_.backward(chosen_of(in, a, t), a.score.row(t), d.weight + t * a.most, d.score.row(t));
        if (losses) {
          score_.probability_backward(a.score.row(t), a.probability.row(t), d.probability.row(t),
                                      d.score.row(t), outputs());
        }
        score_.backward(a.logits.value.row(t), a.score.row(t), d.score.row(t), d.logits.value.row(t),
                        outputs());
      }
    });
    Logits<Real> dlogits = d.logits;
    dlogits.rows = d.rows;
    dlogits.row_count = active;
    scorer_.backward(in, tape.scorer, dlogits, out.dx, gradients, arena, executor);
  }

  void on_step_end(const RouteStats& stats) { balance_.on_step_end(stats); }
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
  void visit_state(Visitor& f) {
    balance_.visit_state(f);
    if constexpr (requires { weighting_.visit_state(f); }) weighting_.visit_state(f);
  }

 private:
  static constexpr Index kTokens = 32;  // a worker takes at once
  static Index blocks(Index tokens) noexcept { return ceil_div(tokens, kTokens); }

  struct BackwardScratch {
    Logits<Real> logits;
    MatrixView<Real> score;
    MatrixView<Real> probability;
    Real* weight;  // [T, M]
    Index weights;
    std::int32_t* rows;  // [T] that take part
    BackwardScratch(Arena& arena, Index tokens, Index outputs, Index most, bool noisy,
                    bool with_probability) {
      using Arrays = impl::TokenChoiceArrays<Real>;
      logits.value = Arrays::matrix(arena, tokens, outputs);
      if (noisy) {
        logits.clean = Arrays::matrix(arena, tokens, outputs);
        logits.noise_scale = Arrays::matrix(arena, tokens, outputs);
      }
      score = Arrays::matrix(arena, tokens, outputs);
      if (with_probability) probability = Arrays::matrix(arena, tokens, outputs);
      weights = tokens * most;
      weight = arena.take<Real>(weights);
      rows = arena.take<std::int32_t>(tokens);
    }
    void zero() const noexcept {
      for (const MatrixView<Real>& m : {logits.value, logits.clean, logits.noise_scale, score, probability}) {
        fill_row(Real{0}, m.data, m.rows * m.cols);
      }
      fill_row(Real{0}, weight, weights);
    }
  };

  Index most(const CallOptions& options) const {
    return selection_.most(options.experts_per_token, outputs());
  }

  impl::TokenChoiceArrays<Real> carve(Arena& arena, Index tokens, const CallOptions& options,
                                      bool training) const {
    return impl::TokenChoiceArrays<Real>::carve(arena, tokens, outputs(), most(options),
                                                S::kNoisy && training, training && balance_.has_loss());
  }

  void measure_work(Arena& arena, Index tokens, Index concurrency) const {
    const Index mark = arena.mark();
    scorer_.measure(arena, tokens, concurrency);
    arena.rewind(mark);
    arena.take<Real>(checked_product("choice scores", concurrency, outputs()));
    balance_.measure(arena, tokens, outputs());
  }

  void check(const RouterInput<Real>& in) const {
    if (!in.logit_mask.empty()) require_extent("logit_mask", "columns", outputs(), in.logit_mask.cols);
    if constexpr (TokenSelection<Select>) selection_.check_tokens(in);
    if (in.outside_counts != nullptr && experts() != outputs()) {
      fail<config_error>("outside_counts: expected none for a router with null experts, whose choices are ",
                         "not counted one by one");
    }
  }

  static Chosen chosen_of(const RouterInput<Real>& in, const impl::TokenChoiceArrays<Real>& a,
                          Index t) noexcept {
    const double draw =
        in.training ? KeyedRandom(in.seed, in.step, DrawStream::second_expert).uniform(in.key(t), 0) : 0.0;
    return {a.chosen + t * a.most, a.chosen_count[t], draw, in.training};
  }

  static BalanceInput<Real> balance_input(const RouterInput<Real>& in,
                                          const impl::TokenChoiceArrays<Real>& a) {
    BalanceInput<Real> b{.call = in, .logit = a.logits.value, .score = a.score, .probability = a.probability};
    b.clean = a.logits.clean;
    b.noise_scale = a.logits.noise_scale;
    b.chosen = a.chosen;
    b.chosen_count = a.chosen_count;
    b.weight = a.weight;
    b.keep = a.keep;
    b.most = a.most;
    b.active = a.active;
    for (Index t = 0; t < in.tokens(); ++t) b.active_count += a.active[t] ? 1 : 0;
    return b;
  }

  template <Executor X>
  void run(const RouterInput<Real>& in, RouteTable<Real>& table, const impl::TokenChoiceArrays<Real>& a,
           typename S::Tape* tape, Arena& arena, X& executor) const {
    const Index mark = arena.mark();
    scorer_.logits(in, a.logits, tape, arena, executor);
    arena.rewind(mark);
    add_mask(in, a.logits);
    impl::check_logit_rows(in, a.logits.value, non_finite_, table.spoiled, a.active);

    Real* const choice = arena.take<Real>(executor.concurrency() * outputs());
    const double* const bias = balance_.selection_bias();
    executor.parallel_for(blocks(in.tokens()), [&](Index block, Index worker) noexcept {
      for (Index t = block * kTokens; t < in.tokens() && t < (block + 1) * kTokens; ++t) {
        choose(in, a, bias, choice + worker * outputs(), t);
      }
    });

    const Index real_experts = experts();
    for (Index t = 0; t < in.tokens(); ++t) {
      table.begin_token(t);
      for (Index i = t * a.most; i < t * a.most + a.chosen_count[t]; ++i) {
        if (a.keep[i]) {
          table.push(t, a.chosen[i], a.weight[i]);
        } else if (Index{a.chosen[i]} >= real_experts) {
          ++table.elided;
        }
      }
    }
    if (in.training && balance_.has_loss()) balance_.forward(balance_input(in, a), table.losses, arena);
  }

  static void add_mask(const RouterInput<Real>& in, const Logits<Real>& logits) noexcept {
    if (in.logit_mask.empty()) return;
    for (Index t = 0; t < in.tokens(); ++t) {
      add_row(in.mask_row(t), logits.value.row(t), logits.value.cols);
      if (!logits.clean.empty()) add_row(in.mask_row(t), logits.clean.row(t), logits.clean.cols);
    }
  }

  /// Scores, choices and weights of one row. `choice` [N] is scratch.
  void choose(const RouterInput<Real>& in, const impl::TokenChoiceArrays<Real>& a, const double* bias,
              Real* choice, Index t) const noexcept {
    const Index n = outputs();
    a.chosen_count[t] = 0;
    if (!a.active[t]) return;
    const Real* const logit = a.logits.value.row(t);
    Real* const score = a.score.row(t);
    score_.forward(logit, score, n);
    if (!a.probability.empty()) score_.probability(score, a.probability.row(t), n);
    for (Index e = 0; e < n; ++e) {
      choice[e] = is_neg_inf(logit[e]) ? impl::kMasked<Real>
                                       : (bias == nullptr ? score[e] : score[e] + static_cast<Real>(bias[e]));
    }
    ExpertId* const ids = a.chosen + t * a.most;
    const Index k = in.options.experts_per_token;
    if constexpr (TokenSelection<Select>) {
      const TokenId token = in.token_id == nullptr ? TokenId{0} : in.token_id[t];
      a.chosen_count[t] = selection_.select(choice, n, k, token, ids);
    } else {
      a.chosen_count[t] = selection_.select(choice, n, k, ids);
    }
    weighting_.forward(chosen_of(in, a, t), score, a.weight + t * a.most, a.keep + t * a.most);
  }

  S scorer_;
  F score_;
  Select selection_;
  W weighting_;
  Balance balance_;
  NonFinite non_finite_;
  WeightPlace weight_place_ = WeightPlace::result;
};

MOE_NAMESPACE_END
