// Mixtures by the mean of a segment's rows: p = softmax(scorer(mean)). SMEAR, Muqeeth et al. 2306.03745.
#pragma once

#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/random.hpp"
#include "moe/kernel/row.hpp"
#include "moe/kernel/softmax.hpp"
#include "moe/router/call_options.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/scorer/segment_pool.hpp"

MOE_NAMESPACE_BEGIN

struct SegmentMixerOptions {
  double dropout = 0;     // training: a whole expert is left out with this probability
  bool detached = false;  // the rows get no gradient from here: features of a frozen model
  NonFinite non_finite = NonFinite::throw_;
};

/// A Mixer. Inner scores the mean of a segment's rows (SegmentPool: padding and rows that are not finite are
/// not in it), over the call's temperature, under the mask of the segment's first row that takes part. In
/// training whole experts may be left out, drawn per (seed, call, row key of the segment's first row,
/// expert); p is then what is left, renormalised, and if nothing is left, all. Not causal: every row has a
/// part in the mean. Parameters are Inner's.
template <Scorer Inner>
class SegmentMixer {
 public:
  using Real = typename Inner::Real;
  using Gradients = typename Inner::Gradients;
  struct Tape {
    impl::Writer writer;
    typename SegmentPool<Inner>::Tape scorer;
    Buffer<Index> first;  // [S] the row whose logits are the segment's, -1 without one
    Buffer<Real> soft;    // [S, E] before the dropout
    Buffer<bool> kept;    // [S, E] by it; empty without
    Buffer<Real> mass;    // [S] of what was kept
  };

  /// Throws config_error for a dropout outside [0, 1), and for a noisy scorer.
  explicit SegmentMixer(Inner scorer, SegmentMixerOptions options = {})
      : scorer_(std::move(scorer)), options_(options) {
    if (!(options.dropout >= 0 && options.dropout < 1)) {
      fail<config_error>("expert dropout: expected a rate in [0, 1), got ", options.dropout);
    }
    impl::check_outputs_of(scorer_, experts());
  }

  static constexpr Coupling coupling(bool training) noexcept {
    return SegmentPool<Inner>::coupling(training);
  }
  Index experts() const noexcept { return scorer_.outputs(); }
  Index heads() const noexcept { return 1; }
  Index width() const noexcept { return scorer_.width(); }
  Inner& scorer() noexcept { return scorer_.inner(); }
  const Inner& scorer() const noexcept { return scorer_.inner(); }
  void initialise(std::uint64_t seed) { scorer_.initialise(seed); }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    f(role, "segment_mixer");
    impl::visit_names_of("scorer", scorer_, f);
  }

  /// Throws config_error for an option other than the temperature, for dropout without draws, and what the
  /// scorer throws; shape_error for a mask of another width.
  void check_call(const RouterInput<Real>& in) const {
    impl::require_there("mixer", identity_ && experts() > 0);
    impl::refuse_option("experts per token", in.options.experts_per_token, "a mixture of all experts");
    impl::refuse_all_but_k(in.options, "a mixture of all experts");
    if (in.options.temperature != 0 && !(inverse_temperature(in) > 0 && is_finite(inverse_temperature(in)))) {
      fail<config_error>("temperature: expected a value whose inverse is a finite number > 0, got ",
                         in.options.temperature);
    }
    if (in.logit_mask) require_extent("logit_mask", "columns", experts(), in.logit_mask.cols);
    if (drops(in)) in.require_draws("a mixture with expert dropout");
    impl::check_call_of(scorer_, in);
  }

  void measure(Arena& arena, const CallShape& shape, Index concurrency) const {
    take_logits(arena, shape.tokens), arena.take<bool>(shape.tokens);
    scorer_.measure(arena, shape.tokens, concurrency);
  }
  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    take_logits(arena, shape.tokens), arena.take<std::int32_t>(shape.segments);
    scorer_.measure_backward(arena, shape.tokens, concurrency);
  }

  /// Throws what check_call throws, numeric_error naming the token for rows or logits that are not finite
  /// unless they are isolated.
  template <Executor X>
  void mix(const RouterInput<Real>& in, const MatrixView<Real>& p, bool* spoiled, Tape* tape, Arena& arena,
           X& executor) const {
    check_call(in);
    const Index tokens = in.tokens(), n = experts();
    const MatrixView<Real> logit(take_logits(arena, tokens), tokens, n);
    bool* const active = arena.take<bool>(tokens);
    if (tape != nullptr) {
      tape->writer.clear();
      tape->first.resize(p.rows);
      tape->soft.resize(checked_product("tape", p.rows, n));
      tape->kept.resize(drops(in) ? p.rows * n : 0);
      tape->mass.assign(p.rows, Real{1});
    }
    scorer_.logits(in, Logits<Real>{.value = logit}, tape == nullptr ? nullptr : &tape->scorer, arena,
                   executor);
    for (Index t = 0; t < tokens; ++t) {
      if (in.logit_mask) add_row(in.mask_row(t), logit.row(t), n);
      if (in.options.temperature != 0) scale_row(inverse_temperature(in), logit.row(t), logit.row(t), n);
    }
    impl::check_logit_rows(in, logit, options_.non_finite, spoiled, active);
    for (Index s = 0; s < p.rows; ++s) {
      const Index begin = in.segments.begin(s), end = in.segments.end(s, tokens);
      Index t = begin;
      while (t < end && !active[t]) ++t;
      if (tape != nullptr) tape->first[s] = t < end ? t : -1;
      if (t == end) {
        fill_row(Real{0}, p.row(s), n);
        continue;
      }
      softmax_row(logit.row(t), p.row(s), n);
      if (tape != nullptr) copy_row(p.row(s), tape->soft.data() + s * n, n);
      if (drops(in)) drop(in, in.key(begin), s, p.row(s), tape);
    }
    if (tape != nullptr) tape->writer.set(identity_);
  }

  /// Throws state_error for another mixer's tape, shape_error for another one's gradients.
  template <Executor X>
  void backward(const RouterInput<Real>& in, const MatrixView<Real>& p, const Tape& tape,
                const MatrixView<Real>& dp, const MatrixView<Real>& dx, Gradients* gradients, Arena& arena,
                X& executor) const {
    tape.writer.require("tape of a mixture", identity_);
    impl::check_gradients_of(*this, gradients);
    const Index tokens = in.tokens(), n = experts();
    const MatrixView<Real> dlogit(take_logits(arena, tokens), tokens, n);
    std::int32_t* const rows = arena.take<std::int32_t>(p.rows);
    Index count = 0;
    for (Index s = 0; s < p.rows; ++s) {
      const Index t = tape.first[s];
      if (t < 0) continue;
      Real* const d = dp.row(s);
      if (!tape.kept.empty()) {  // p = kept soft / mass
        const Real through = dot(d, p.row(s), n);
        const bool* const kept = tape.kept.data() + s * n;
        for (Index e = 0; e < n; ++e) d[e] = kept[e] ? (d[e] - through) / tape.mass[s] : Real{0};
      }
      fill_row(Real{0}, dlogit.row(t), n);
      softmax_backward_row(tape.soft.data() + s * n, d, dlogit.row(t), n);
      if (in.options.temperature != 0) scale_row(inverse_temperature(in), dlogit.row(t), dlogit.row(t), n);
      rows[count++] = static_cast<std::int32_t>(t);
    }
    scorer_.backward(in, tape.scorer, Logits<Real>{.value = dlogit, .rows = rows, .row_count = count},
                     options_.detached ? MatrixView<Real>{} : dx, gradients, arena, executor);
  }

  void on_step_end(const RouteStats& stats) { impl::on_step_end_of(scorer_, stats); }
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
    impl::visit_state_of(scorer_, f);
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    impl::visit_state_of(scorer_, f);
  }

 private:
  Real* take_logits(Arena& arena, Index tokens) const {
    return arena.take<Real>(checked_product("logits", tokens, experts()));
  }
  bool drops(const RouterInput<Real>& in) const noexcept { return in.training && options_.dropout > 0; }
  static Real inverse_temperature(const RouterInput<Real>& in) noexcept {
    return static_cast<Real>(1 / in.options.temperature);
  }

  void drop(const RouterInput<Real>& in, std::uint64_t key, Index s, Real* p, Tape* tape) const noexcept {
    const KeyedRandom draw = in.random(DrawStream::expert_dropout);
    const auto keeps = [&](Index e) noexcept {
      return draw.uniform(key, static_cast<std::uint32_t>(e)) >= options_.dropout;
    };
    Real mass = 0;
    for (Index e = 0; e < experts(); ++e) mass += keeps(e) ? p[e] : Real{0};
    const bool all = !(mass > 0);
    for (Index e = 0; e < experts(); ++e) {
      const bool kept = all || keeps(e);
      if (tape != nullptr) tape->kept[s * experts() + e] = kept;
      if (!all) p[e] = kept ? p[e] / mass : Real{0};
    }
    if (tape != nullptr && !all) tape->mass[s] = mass;
  }

  impl::Identity identity_;
  SegmentPool<Inner> scorer_;
  SegmentMixerOptions options_;
};

MOE_NAMESPACE_END
