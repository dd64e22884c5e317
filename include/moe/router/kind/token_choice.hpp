// Stage 1/5 route, by scores. In: RouterInput. Out: RouteTable. Next: moe/plan/dispatch_plan.hpp
// Router = scorer > score function > selection > weighting, plus balancing. Most papers are one new part;
// named routers are aliases of this composition (router/named).
#pragma once

#include <cstdint>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/plan/statistics.hpp"
#include "moe/router/balance/concept.hpp"
#include "moe/router/concept.hpp"
#include "moe/router/kind/token_choice_arrays.hpp"
#include "moe/router/kind/token_choice_hooks.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/observable.hpp"
#include "moe/router/row_context.hpp"
#include "moe/router/score/concept.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/selection/concept.hpp"
#include "moe/router/weighting/concept.hpp"

MOE_NAMESPACE_BEGIN

/// Every token chooses by its own scores (contract C1), or, with a SetSelection, rows of a segment or a batch
/// are chosen for (and, with a SetWeighting, weighed) together; losses look at the whole batch. `Balance` is
/// a Balancing<...>. Every part may own parameters and state.
template <Scorer S, ScoreFunction F, class Select, class W, class Balance = Balancing<>>
requires((Weighting<W> && Selection<Select>) ||
         ((Weighting<W> || SetWeighting<W>)&&SetSelection<Select>)) class TokenChoice {
  static constexpr bool kSet = SetSelection<Select>;
  static constexpr bool kPlans = PlanningSelection<Select, typename S::Real>;
  static constexpr bool kPlansInInference = requires { requires Select::kPlansInInference; };
  static constexpr bool kSetWeights = SetWeighting<W>;
  static_assert(
      !kPlans || !kSetWeights,
      "moe: a selection that makes a plan is weighed row by row, from the plan, not by a SetWeighting");
  static_assert(impl::refuse_wrong_token_choice_parts<S, F, Select, W, Balance>());

 public:
  using Real = typename S::Real;
  struct Gradients {
    typename S::Gradients scorer;
    impl::GradientsOf<F> score;
    impl::GradientsOf<Select> selection;
    impl::GradientsOf<W> weighting;
    impl::GradientsOf<Balance> balance;
  };
  struct Tape {
    impl::Writer writer;
    typename S::Tape scorer;
    Workspace memory;
    impl::TokenChoiceArrays<Real> arrays{};
  };

  /// The weakest of the parts.
  static constexpr Coupling coupling(bool training) noexcept {
    return weakest(weakest(weakest(impl::coupling_of<S>(training), impl::coupling_of<F>(training)),
                           weakest(impl::coupling_of<Select>(training), impl::coupling_of<W>(training))),
                   impl::coupling_of<Balance>(training));
  }

  /// Throws config_error if the parts do not fit together.
  TokenChoice(S scorer, F score, Select selection, W weighting, Balance balance = Balance{},
              NonFinite non_finite = NonFinite::throw_)
      : scorer_(std::move(scorer)),
        score_(std::move(score)),
        selection_(std::move(selection)),
        weighting_(std::move(weighting)),
        balance_(std::move(balance)),
        non_finite_(non_finite) {
    check_parts();
    if (experts() < 1) fail<config_error>("experts: expected E >= 1, got ", experts());
    static_cast<void>(max_pairs({}));
  }

  Index experts() const noexcept { return impl::experts_of(weighting_, outputs()); }
  /// N: columns of the logits, null experts included.
  Index outputs() const noexcept { return scorer_.outputs(); }
  Index width() const noexcept { return scorer_.width(); }
  /// R: columns of what the scorer hands on to the next layer's router; 0: nothing.
  Index carry_width() const noexcept { return impl::carry_width_of(scorer_); }
  Index max_pairs(const CallShape& shape) const {
    check_parts();
    if constexpr (kSet) {
      return selection_.max_pairs(shape, outputs());
    } else {
      return checked_product("routed pairs", shape.tokens, selection_.most(shape.options, outputs()));
    }
  }

  S& scorer() noexcept { return scorer_; }
  const S& scorer() const noexcept { return scorer_; }
  F& score() noexcept { return score_; }
  Select& selection() noexcept { return selection_; }
  const Select& selection() const noexcept { return selection_; }
  W& weighting() noexcept { return weighting_; }
  Balance& balancing() noexcept { return balance_; }
  const Balance& balancing() const noexcept { return balance_; }
  NonFinite non_finite() const noexcept { return non_finite_; }
  void set_non_finite(NonFinite policy) noexcept { non_finite_ = policy; }
  WeightPlace weight_place() const noexcept { return weight_place_; }
  void set_weight_place(WeightPlace place) noexcept { weight_place_ = place; }

  template <class Visitor>
  void visit_names(const char*, Visitor& f) const {
    impl::visit_names_of("scorer", scorer_, f);
    impl::visit_names_of("score", score_, f);
    impl::visit_names_of("selection", selection_, f);
    impl::visit_names_of("weighting", weighting_, f);
    impl::visit_names_of("balance", balance_, f);
  }

  void measure(Arena& arena, const CallShape& shape, Index concurrency) const {
    carve(arena, shape.tokens, shape.options, true);
    measure_work(arena, shape.tokens, concurrency);
  }

  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    BackwardScratch{arena,      shape.tokens, outputs(), most(shape.options), impl::is_noisy(scorer_),
                    has_loss(), plans()};
    const Index mark = arena.mark();
    if constexpr (kPlans) selection_.measure_backward(arena, shape.tokens, outputs());
    arena.rewind(mark);
    balance_.measure(arena, shape.tokens, outputs());
    arena.rewind(mark);
    if constexpr (kSetWeights) weighting_.measure(arena, shape.tokens, outputs());
    arena.rewind(mark);
    scorer_.measure_backward(arena, shape.tokens, concurrency);
  }

  /// Throws numeric_error naming token and expert for NaN, +inf or an all-masked row (unless isolated),
  /// config_error for a K beyond N or another option that a part cannot obey, or outside counts beside null
  /// experts, numeric_error for one that is no count, shape_error for a mask or, if the scorer carries, a
  /// carry of another width, state_error if it was moved from, and what the parts throw for columns that they
  /// need, and for draws.
  template <Executor X>
  void route(const RouterInput<Real>& in, RouteTable<Real>& table, Arena& arena, X& executor) const {
    route_observed(in, table, nullptr, {}, arena, executor);
  }

  template <Executor X>
  void route_train(const RouterInput<Real>& in, RouteTable<Real>& table, Tape& tape, Arena& arena,
                   X& executor) const {
    route_observed(in, table, &tape, {}, arena, executor);
  }

  /// As route, or with a tape as route_train; a view that is not empty gets logits and scores of the rows
  /// that take part, and what all rows hand on.
  template <Executor X>
  void route_observed(const RouterInput<Real>& in, RouteTable<Real>& table, Tape* tape,
                      const RouteView<Real>& view, Arena& arena, X& executor) const {
    check(in);
    impl::TokenChoiceArrays<Real> a;
    if (tape != nullptr) {
      tape->writer.clear();
      Arena measuring;
      carve(measuring, in.tokens(), in.options, in.training);
      Arena kept = tape->memory.arena(measuring.bytes());
      tape->arrays = a = carve(kept, in.tokens(), in.options, in.training);
    } else {
      a = carve(arena, in.tokens(), in.options, in.training);
    }
    run(in, table, a, tape == nullptr ? nullptr : &tape->scorer, arena, executor);
    if (tape != nullptr) tape->writer.set(identity_);
    for (Index t = 0; view.logit && t < in.tokens(); ++t) {
      if (!a.active[t]) continue;
      copy_row(a.logits.value.row(t), view.logit.row(t), outputs());
      copy_row(a.score.row(t), view.score.row(t), outputs());
    }
    for (Index t = 0; view.carry && t < in.tokens(); ++t) {
      copy_row(a.logits.carry.row(t), view.carry.row(t), carry_width());
    }
  }

  /// Throws state_error for a tape that this router did not write, or of another batch, and for gradients
  /// from outside: shape_error if they are not [T, N], [T] and [T, R], numeric_error for d logits or an
  /// advantage that is not finite, config_error for an advantage of choices that were not sampled and for the
  /// gradient of a carry that was not handed on or did not come.
  void check_backward(const RouterInput<Real>& in, const RouteTable<Real>& table, const Tape& tape,
                      const RouteGradients<Real>& out) const {
    require_parts();
    tape.writer.require("router tape", identity_);
    const MatrixView<Real>& logits = tape.arrays.logits.value;
    if (logits.rows != in.tokens() || table.tokens != in.tokens() || logits.cols != outputs()) {
      fail<state_error>("router tape: expected that of a call with ", in.tokens(), " rows and ", outputs(),
                        " outputs, got ", logits.rows, " and ", logits.cols, ", and a table of ",
                        table.tokens, " rows");
    }
    impl::check_outside_gradients(out, in.tokens(), outputs(), in.training && impl::samples<Real>(selection_),
                                  tape.arrays.active);
    impl::check_carry_gradients(in, out, carry_width());
  }

  /// Throws what check_backward throws, shape_error for another router's gradients, before anything is
  /// written.
  template <Executor X>
  void backward(const RouterInput<Real>& in, const RouteTable<Real>& table, const Tape& tape,
                const RouteGradients<Real>& out, Gradients* gradients, Arena& arena, X& executor) const {
    const auto& a = tape.arrays;
    check_backward(in, table, tape, out);
    impl::check_gradients_of(*this, gradients);
    const bool losses = in.training && has_loss() && out.auxiliary_scale != 0;
    const BackwardScratch d(arena, in.tokens(), outputs(), a.most, impl::is_noisy(scorer_), has_loss(),
                            !a.plan.empty());
    d.zero();
    Index active = 0;
    for (Index t = 0; t < in.tokens(); ++t) {  // gradients of the table's pairs, back at their choices
      // Of a set that was chosen from, rows without a choice learn nothing.
      const bool learns =
          a.active[t] && (!kSet || losses || out.dlogit || out.dcarry_out || a.chosen_count[t] > 0);
      if (learns) d.rows[active++] = static_cast<std::int32_t>(t);
      Index p = table.offsets[t];
      for (Index i = t * a.most; i < t * a.most + a.chosen_count[t]; ++i) {
        if (a.keep[i]) d.weight[i] = out.dweight[p++];
      }
    }
    if (losses) {
      const Index mark = arena.mark();
      balance_.template backward<Real>(
          balance_input(in, a), scorer_, out.auxiliary_scale,
          BalanceGradients<Real>{d.logits.value, d.logits.clean, d.logits.noise_scale, d.score, d.probability,
                                 d.weight},
          gradients == nullptr ? nullptr : &gradients->scorer,
          gradients == nullptr ? nullptr : &gradients->balance, arena);
      arena.rewind(mark);
    }
    if constexpr (LearningSelection<Select, Real>) {
      for (Index t = 0; gradients != nullptr && t < in.tokens(); ++t) {
        if (a.active[t]) {
          selection_.add_gradients(row_of(in, a, t), chosen_of(a, t), d.weight + t * a.most,
                                   gradients->selection);
        }
      }
    }
    if constexpr (LearningWeighting<W, Real>) {
      for (Index t = 0; gradients != nullptr && t < in.tokens(); ++t) {
        if (a.active[t])
          weighting_.add_gradients(weighed_row_of(in, a, t), chosen_of(a, t), d.weight + t * a.most, d.again,
                                   gradients->weighting);
      }
    }
    if constexpr (kPlans) plan_backward(in, a, d, arena, executor);
    if constexpr (kSetWeights) {
      const Index mark = arena.mark();
      weighting_.set_weights_backward(set_of(in, a, {}), choices_of(a), d.weight, d.score, arena, executor);
      arena.rewind(mark);
    }
    executor.parallel_for(blocks(in.tokens()), [&](Index block, Index) noexcept {
      for (Index t = block * kTokens; t < in.tokens() && t < (block + 1) * kTokens; ++t) {
        if (!a.active[t]) continue;
        const RowContext<Real> row = row_of(in, a, t);
        if constexpr (!kSetWeights) {
          if (!kPlans || a.plan.empty())
            weighting_.backward(row, chosen_of(a, t), d.weight + t * a.most, d.score.row(t));
        }
        if (losses) {
          score_.probability_backward(row, a.probability.row(t), d.probability.row(t), d.score.row(t));
        }
        score_.backward(row, d.score.row(t), d.logits.value.row(t));
        add_outside_gradients(out, row, chosen_of(a, t), d.logits.value.row(t));
      }
    });
    if constexpr (LearningScore<F, Real>) {
      for (Index t = 0; gradients != nullptr && t < in.tokens(); ++t) {
        if (a.active[t]) score_.add_gradients(row_of(in, a, t), d.score.row(t), gradients->score);
      }
    }
    cool(in, d.logits);
    Logits<Real> dlogits = d.logits;
    dlogits.rows = d.rows;
    dlogits.row_count = active;
    dlogits.dcarry_out = out.dcarry_out;
    dlogits.dcarry = out.dcarry;
    scorer_.backward(in, tape.scorer, dlogits, out.dx, gradients == nullptr ? nullptr : &gradients->scorer,
                     arena, executor);
  }

  void on_step_end(const RouteStats& stats) {
    check_parts();
    each_part([&](auto& part) { impl::on_step_end_of(part, stats); });
  }
  Gradients make_gradients() const {
    return {scorer_.make_gradients(), impl::make_gradients_of(score_), impl::make_gradients_of(selection_),
            impl::make_gradients_of(weighting_), impl::make_gradients_of(balance_)};
  }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    impl::check_gradients_of(*this, gradients);
    each_learning_part(gradients, [&](auto& part, auto* own) { impl::visit_parameters_of(part, own, f); });
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    each_learning_part(gradients, [&](auto& part, auto* own) { impl::visit_storage_of(part, own, f); });
  }
  template <class Visitor>
  void visit_state(Visitor& f) {
    each_part([&](auto& part) { impl::visit_state_of(part, f); });
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    each_part([&](const auto& part) { impl::visit_state_of(part, f); });
  }

 private:
  static constexpr Index kTokens = 32;  // a worker takes at once
  static Index blocks(Index tokens) noexcept { return ceil_div(tokens, kTokens); }

  using BackwardScratch = impl::TokenChoiceScratch<Real, LearningWeighting<W, Real>>;

  /// M.
  Index most(const CallOptions& options) const {
    if constexpr (kSet) {
      return outputs();
    } else {
      return selection_.most(options, outputs());
    }
  }
  bool has_loss() const noexcept { return balance_.template has_loss<Real, S>(); }
  bool plans() const noexcept {
    if constexpr (kPlans) return selection_.plans();
    return false;
  }

  impl::TokenChoiceArrays<Real> carve(Arena& arena, Index tokens, const CallOptions& options,
                                      bool training) const {
    auto a = impl::TokenChoiceArrays<Real>::carve(arena, tokens, outputs(), most(options),
                                                  impl::is_noisy(scorer_) && training, training && has_loss(),
                                                  carry_width());
    if constexpr (kPlans) {
      if ((training || kPlansInInference) && plans()) {
        a.plan = a.matrix(arena, tokens, outputs());
        a.kept = arena.take<double>(selection_.kept(tokens, outputs()));
      }
    }
    return a;
  }

  void measure_work(Arena& arena, Index tokens, Index concurrency) const {
    const Index mark = arena.mark();
    scorer_.measure(arena, tokens, concurrency);
    arena.rewind(mark);
    arena.take<Real>(checked_product("choice scores", kSet ? tokens : concurrency, outputs()));
    if constexpr (kSet) {
      const Index chosen = arena.mark();
      selection_.measure(arena, tokens, outputs());
      arena.rewind(chosen);
      if constexpr (kSetWeights) weighting_.measure(arena, tokens, outputs());
      arena.rewind(chosen);
    }
    balance_.measure(arena, tokens, outputs());
  }

  void require_parts() const { impl::require_there("router", identity_ && outputs() > 0); }
  /// What the constructor checked: a part may have been replaced, or moved from.
  void check_parts() const {
    require_parts();
    each_part([&](const auto& part) { impl::check_outputs_of(part, outputs()); });
  }

  void check(const RouterInput<Real>& in) const {
    check_parts();
    if (in.options.temperature != 0 && !(inverse_temperature(in) > 0 && is_finite(inverse_temperature(in)))) {
      fail<config_error>("temperature: expected a value whose inverse is a finite number > 0, got ",
                         in.options.temperature);
    }
    if (in.logit_mask) require_extent("logit_mask", "columns", outputs(), in.logit_mask.cols);
    if (in.target) require_extent("target", "columns", outputs(), in.target.cols);
    if (in.carry && carry_width() > 0) require_extent("carry", "columns", carry_width(), in.carry.cols);
    each_part([&](const auto& part) { impl::check_call_of(part, in); });
    if (!in.outside_counts.empty() && experts() != outputs()) {
      fail<config_error>("outside_counts: expected none for a router with null experts, whose choices are ",
                         "not counted one by one");
    }
    for (std::size_t e = 0; e < in.outside_counts.size(); ++e) {
      if (!(in.outside_counts[e] >= 0 && in.outside_counts[e] <= 0x1p53)) {
        fail<numeric_error>("outside_counts: expected counts in [0, 2^53], got ", in.outside_counts[e],
                            " for expert ", e);
      }
    }
  }

  /// To dlogit [N] of one row: what came with the call, and the estimator of what was sampled.
  void add_outside_gradients(const RouteGradients<Real>& out, const RowContext<Real>& row,
                             const Chosen& chosen, Real* dlogit) const noexcept {
    for (Index e = 0; out.dlogit && e < row.n; ++e) {
      if (!is_neg_inf(row.logit[e])) dlogit[e] += out.dlogit(row.token, e);
    }
    if constexpr (SampledSelection<Select, Real>) {
      if (!out.advantage.empty()) {
        selection_.log_probability_backward(row, chosen, out.advantage[row.token], dlogit);
      }
    }
  }

  static RowContext<Real> row_of(const RouterInput<Real>& in, const impl::TokenChoiceArrays<Real>& a,
                                 Index t) noexcept {
    return {in, t, a.score.cols, a.logits.value.row(t), a.score.row(t)};
  }
  /// The row as the weighting sees it.
  static RowContext<Real> weighed_row_of(const RouterInput<Real>& in, const impl::TokenChoiceArrays<Real>& a,
                                         Index t) noexcept {
    RowContext<Real> row = row_of(in, a, t);
    if (kPlans && !a.plan.empty()) row.score = a.plan.row(t);
    return row;
  }
  static Chosen chosen_of(const impl::TokenChoiceArrays<Real>& a, Index t) noexcept {
    return choices_of(a).of(t);
  }
  static ChosenSet choices_of(const impl::TokenChoiceArrays<Real>& a) noexcept {
    return {a.chosen, a.chosen_count, a.most};
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
    cool(in, a.logits);
    impl::check_logit_rows(in, a.logits.value, non_finite_, table.spoiled, a.active);
    for (Index t = 0; a.logits.carry && t < in.tokens(); ++t) {
      if (!a.active[t]) fill_row(Real{0}, a.logits.carry.row(t), a.logits.carry.cols);
    }

    const Index n = outputs();
    Real* const choice = arena.take<Real>((kSet ? in.tokens() : executor.concurrency()) * n);
    const double* const bias = balance_.selection_bias();
    executor.parallel_for(blocks(in.tokens()), [&](Index block, Index worker) noexcept {
      for (Index t = block * kTokens; t < in.tokens() && t < (block + 1) * kTokens; ++t) {
        a.chosen_count[t] = 0;
        if (!a.active[t]) continue;
        Real* const own = choice + (kSet ? t : worker) * n;
        score_row(in, a, bias, own, t);
        if constexpr (!kSet) {
          const RowContext<Real> row = row_of(in, a, t);
          a.chosen_count[t] = selection_.select(row, own, a.chosen + t * a.most);
          weighting_.forward(row, chosen_of(a, t), a.weight + t * a.most, a.keep + t * a.most);
        }
      }
    });
    if constexpr (kSet) choose_set(in, a, MatrixView<Real>(choice, in.tokens(), n), arena, executor);

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
    if (in.training && has_loss()) {
      balance_.template forward<Real>(balance_input(in, a), scorer_, table.losses, arena);
    }
  }

  static void add_mask(const RouterInput<Real>& in, const Logits<Real>& logits) noexcept {
    if (!in.logit_mask) return;
    for (Index t = 0; t < in.tokens(); ++t) {
      add_row(in.mask_row(t), logits.value.row(t), logits.value.cols);
      if (!logits.clean.empty()) add_row(in.mask_row(t), logits.clean.row(t), logits.clean.cols);
    }
  }

  static Real inverse_temperature(const RouterInput<Real>& in) noexcept {
    return static_cast<Real>(1 / in.options.temperature);
  }

  /// Logits, or their gradients, over the call's temperature.
  static void cool(const RouterInput<Real>& in, const Logits<Real>& logits) noexcept {
    if (in.options.temperature == 0) return;
    const Real factor = inverse_temperature(in);
    for (const MatrixView<Real>& m : {logits.value, logits.clean, logits.noise_scale}) {
      for (Index t = 0; t < m.rows; ++t) scale_row(factor, m.row(t), m.row(t), m.cols);
    }
  }

  /// Scores of one row, and what to choose by. `choice` [N].
  void score_row(const RouterInput<Real>& in, const impl::TokenChoiceArrays<Real>& a, const double* bias,
                 Real* choice, Index t) const noexcept {
    const RowContext<Real> row = row_of(in, a, t);
    Real* const score = a.score.row(t);
    score_.forward(row, score);
    if (!a.probability.empty()) score_.probability(row, a.probability.row(t));
    for (Index e = 0; e < row.n; ++e) {
      choice[e] = is_neg_inf(row.logit[e])
                      ? impl::kMasked<Real>
                      : (bias == nullptr ? score[e] : score[e] + static_cast<Real>(bias[e]));
    }
  }

  template <Executor X>
  void choose_set(const RouterInput<Real>& in, const impl::TokenChoiceArrays<Real>& a,
                  const MatrixView<Real>& choice, Arena& arena, X& executor) const {
    const Index mark = arena.mark();
    const SetCall<Real> set = set_of(in, a, choice);
    selection_.select_set(set, a.chosen, a.chosen_count, arena, executor);
    arena.rewind(mark);
    if constexpr (kSetWeights) {
      weighting_.set_weights(set, choices_of(a), a.weight, a.keep, arena, executor);
      arena.rewind(mark);
    } else {
      executor.parallel_for(blocks(in.tokens()), [&](Index block, Index) noexcept {
        for (Index t = block * kTokens; t < in.tokens() && t < (block + 1) * kTokens; ++t) {
          if (!a.active[t]) continue;
          weighting_.forward(weighed_row_of(in, a, t), chosen_of(a, t), a.weight + t * a.most,
                             a.keep + t * a.most);
        }
      });
    }
  }

  static SetCall<Real> set_of(const RouterInput<Real>& in, const impl::TokenChoiceArrays<Real>& a,
                              const MatrixView<Real>& choice) noexcept {
    return {in, choice, a.logits.value, a.score, a.active, a.plan, a.kept};
  }

  /// Weights that are made of a plan: their gradients, through it.
  template <Executor X>
  void plan_backward(const RouterInput<Real>& in, const impl::TokenChoiceArrays<Real>& a,
                     const BackwardScratch& d, Arena& arena, X& executor) const {
    if (a.plan.empty()) return;
    executor.parallel_for(blocks(in.tokens()), [&](Index block, Index) noexcept {
      for (Index t = block * kTokens; t < in.tokens() && t < (block + 1) * kTokens; ++t) {
        if (!a.active[t]) continue;
        weighting_.backward(weighed_row_of(in, a, t), chosen_of(a, t), d.weight + t * a.most, d.plan.row(t));
      }
    });
    const Index mark = arena.mark();
    selection_.plan_backward(set_of(in, a, {}), d.plan, d.score, d.logits.value, arena, executor);
    arena.rewind(mark);
  }

  template <class Visit>
  void each_part(Visit&& visit) const {
    visit(scorer_), visit(score_), visit(selection_), visit(weighting_), visit(balance_);
  }
  template <class Visit>
  void each_part(Visit&& visit) {
    visit(scorer_), visit(score_), visit(selection_), visit(weighting_), visit(balance_);
  }
  template <class Visit>
  void each_learning_part(Gradients* g, Visit&& visit) {
    visit(scorer_, g == nullptr ? nullptr : &g->scorer);
    visit(score_, g == nullptr ? nullptr : &g->score);
    visit(selection_, g == nullptr ? nullptr : &g->selection);
    visit(weighting_, g == nullptr ? nullptr : &g->weighting);
    visit(balance_, g == nullptr ? nullptr : &g->balance);
  }

  impl::Identity identity_;
  S scorer_;
  F score_;
  Select selection_;
  W weighting_;
  Balance balance_;
  NonFinite non_finite_;
  WeightPlace weight_place_ = WeightPlace::result;
};

MOE_NAMESPACE_END
