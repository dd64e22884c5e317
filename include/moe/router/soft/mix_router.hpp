// A soft router from a matrix of logits, rows by slots: both sides of the mixing are softmaxes of it, each
// over the rows of a group or over the slots of a row. Soft MoE 2308.00951, Mixture of Tokens 2310.15961.
#pragma once

#include <cstdint>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/plan/statistics.hpp"
#include "moe/router/call_options.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/soft/concept.hpp"
#include "moe/router/soft/mix_groups.hpp"
#include "moe/router/soft/mix_softmax.hpp"

MOE_NAMESPACE_BEGIN

struct MixRouterOptions {
  Index slots_per_expert = 1;
  MixWeights weights = MixWeights::rows_and_slots;
  NonFinite non_finite = NonFinite::throw_;
};

/// Output e * s + i of the scorer is slot i of expert e. A masked logit (-inf) has weight 0 on both sides.
/// Rows that take no part (padding, spoiled) are in no group and so in no softmax. No loss. Of a call's
/// options it obeys the temperature.
template <Scorer S, MixGroups G = SegmentGroups>
class MixRouter {
 public:
  using Real = typename S::Real;
  using Options = MixRouterOptions;
  using Gradients = typename S::Gradients;
  struct Tape {
    impl::Writer writer;
    typename S::Tape scorer;
  };

  static constexpr Coupling coupling(bool training) noexcept {
    return weakest(impl::coupling_of<S>(training), G::coupling(training));
  }

  /// Throws config_error unless the scorer has a multiple of slots_per_expert >= 1 outputs.
  explicit MixRouter(S scorer, G groups = G{}, Options options = {})
      : scorer_(std::move(scorer)), groups_(std::move(groups)), options_(options) {
    require_range("slots of an expert", options.slots_per_expert, 1, INT32_MAX);
    if (outputs() < 1 || outputs() % options.slots_per_expert != 0) {
      fail<config_error>("soft router: expected a scorer of a multiple of ", options.slots_per_expert,
                         " outputs, the slots of an expert, got ", outputs());
    }
    if (impl::is_noisy(scorer_))
      fail<config_error>("soft router: expected a scorer without noise, got one with");
    impl::check_outputs_of(scorer_, outputs());
  }

  Index experts() const noexcept { return outputs() / options_.slots_per_expert; }
  /// Slots of a group.
  Index outputs() const noexcept { return scorer_.outputs(); }
  Index width() const noexcept { return scorer_.width(); }
  S& scorer() noexcept { return scorer_; }
  const S& scorer() const noexcept { return scorer_; }
  const G& groups() const noexcept { return groups_; }
  const Options& options() const noexcept { return options_; }
  NonFinite non_finite() const noexcept { return options_.non_finite; }

  template <class Visitor>
  void visit_names(const char*, Visitor& f) const {
    impl::visit_names_of("scorer", scorer_, f);
    impl::visit_names_of("groups", groups_, f);
  }

  MixExtent extent(const CallShape& shape) const {
    require_parts();
    return mix_extent<Real>(shape.tokens, groups_.most(shape), outputs());
  }
  void measure(Arena& arena, const CallShape& shape, Index concurrency) const {
    matrix(arena, shape.tokens);
    arena.take<bool>(shape.tokens);
    scorer_.measure(arena, shape.tokens, concurrency);
  }
  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    const MixExtent room = extent(shape);
    matrix(arena, shape.tokens);
    arena.take<Real>(room.dispatch);
    arena.take<std::int32_t>(shape.tokens);
    arena.take<bool>(shape.tokens);
    scorer_.measure_backward(arena, shape.tokens, concurrency);
  }

  /// Throws numeric_error naming token and output for NaN, +inf or an all-masked row (unless isolated),
  /// config_error for an option that it cannot obey or what the scorer lacks, shape_error for a mask of
  /// another width, state_error if it was moved from.
  template <Executor X>
  void mix(const RouterInput<Real>& in, MixTable<Real>& table, Arena& arena, X& executor) const {
    run(in, table, nullptr, arena, executor);
  }
  template <Executor X>
  void mix_train(const RouterInput<Real>& in, MixTable<Real>& table, Tape& tape, Arena& arena,
                 X& executor) const {
    tape.writer.clear();
    run(in, table, &tape.scorer, arena, executor);
    tape.writer.set(identity_);
  }

  /// Throws state_error for a tape that this router did not write, shape_error for another router's
  /// gradients, before anything is written.
  template <Executor X>
  void backward(const RouterInput<Real>& in, const MixTable<Real>& table, const Tape& tape,
                const MixGradients<Real>& out, Gradients* gradients, Arena& arena, X& executor) const {
    require_parts();
    tape.writer.require("router tape", identity_);
    impl::check_gradients_of(*this, gradients);
    Logits<Real> dlogits;
    dlogits.value = matrix(arena, in.tokens());
    Real* const drows = arena.take<Real>(table.room.dispatch);  // of logits, by what softmaxes over rows give
    auto* const rows = arena.take<std::int32_t>(in.tokens());
    bool* const mixes = arena.take<bool>(in.tokens());
    impl::mix_softmax_backward(
        table, options_.weights, out,
        [&](Index g, Index r) noexcept { return dlogits.value.row(row_at(table, g, r)); }, drows, executor);
    for (Index t = 0; t < in.tokens(); ++t) mixes[t] = false;
    for (Index p = 0; p < table.positions(); ++p) mixes[table.row[p]] = true;
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!mixes[t]) continue;
      rows[dlogits.row_count++] = static_cast<std::int32_t>(t);
      if (in.options.temperature != 0) cool(in, dlogits.value, t);
    }
    dlogits.rows = rows;
    scorer_.backward(in, tape.scorer, dlogits, out.dx, gradients, arena, executor);
  }

  Gradients make_gradients() const { return scorer_.make_gradients(); }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    impl::visit_parameters_of(scorer_, gradients, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    impl::visit_storage_of(scorer_, gradients, f);
  }
  template <class Visitor>
  void visit_state(Visitor& f) {
    impl::visit_state_of(scorer_, f);
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    impl::visit_state_of(scorer_, f);
  }
  void on_step_end(const RouteStats& stats) { impl::on_step_end_of(scorer_, stats); }

 private:
  void require_parts() const { impl::require_there("soft router", identity_ && outputs() > 0); }
  MatrixView<Real> matrix(Arena& arena, Index tokens) const {
    Real* const data = arena.take<Real>(checked_product("logits", tokens, outputs()));
    MatrixView<Real> view;
    view.data = data;
    view.rows = tokens;
    view.cols = view.stride = outputs();
    return view;
  }
  static Index row_at(const MixTable<Real>& table, Index g, Index r) noexcept {
    return table.row[table.offsets[g] + r];
  }
  static void cool(const RouterInput<Real>& in, const MatrixView<Real>& logits, Index t) noexcept {
    scale_row(static_cast<Real>(1 / in.options.temperature), logits.row(t), logits.row(t), logits.cols);
  }

  void check(const RouterInput<Real>& in) const {
    require_parts();
    const CallOptions& asked = in.options;
    impl::refuse_option("experts per token", asked.experts_per_token, kOf);
    impl::refuse_option("capacity factor", asked.capacity_factor, kOf);
    impl::refuse_option("threshold", asked.threshold, kOf);
    impl::refuse_option("p", asked.p, kOf);
    const Real inverse = asked.temperature == 0 ? Real{1} : static_cast<Real>(1 / asked.temperature);
    if (!(inverse > 0 && is_finite(inverse))) {
      fail<config_error>("temperature: expected a value whose inverse is a finite number > 0, got ",
                         asked.temperature);
    }
    if (in.logit_mask) require_extent("logit_mask", "columns", outputs(), in.logit_mask.cols);
    impl::check_call_of(scorer_, in);
  }

  template <Executor X>
  void run(const RouterInput<Real>& in, MixTable<Real>& table, typename S::Tape* tape, Arena& arena,
           X& executor) const {
    check(in);
    const MatrixView<Real> logits = matrix(arena, in.tokens());
    bool* const active = arena.take<bool>(in.tokens());
    scorer_.logits(in, Logits<Real>{.value = logits}, tape, arena, executor);
    for (Index t = 0; t < in.tokens(); ++t) {
      if (in.logit_mask) add_row(in.mask_row(t), logits.row(t), outputs());
      if (in.options.temperature != 0) cool(in, logits, t);
    }
    impl::check_logit_rows(in, logits, options_.non_finite, table.spoiled, active);
    groups_.group(
        in, active, [&](Index t) { table.push_row(t); },
        [&] { table.end_group([this](Index) { return options_.slots_per_expert; }); });
    impl::each_run_of_rows(table, executor, [&](Index g, Index first, Index last) noexcept {
      for (Index r = first; r < last; ++r) {
        copy_row(logits.row(row_at(table, g, r)), table.combine_row(table.combine, g, r), outputs());
      }
    });
    impl::mix_softmax(table, options_.weights, executor);
  }

  static constexpr const char* kOf = "a soft router";

  impl::Identity identity_;
  S scorer_;
  G groups_;
  Options options_;
};

MOE_NAMESPACE_END
