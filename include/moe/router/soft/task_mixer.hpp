// Mixtures by the task of a segment: gates z [tasks, H, E], a sigmoid each, normalised by their sum. Poly,
// Ponti et al. 2202.13914 (one head); MHR, Caccia et al. 2211.03831 (H heads).
#pragma once

#include <math.h>

#include <cstddef>
#include <cstdint>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/random.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/call_options.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

struct TaskMixerOptions {
  Index tasks = 0;         // rows of z
  Index experts = 0;       // E modules
  Index heads = 1;         // H
  bool noise = true;       // training: a relaxed Bernoulli draw (Gumbel-sigmoid) instead of the sigmoid
  double temperature = 1;  // of that draw
};

/// A Mixer that reads the column `task`, which must be one for all rows of a segment that take part. p[h, e]
/// = g[h, e] / sum over e of g[h, e], g = sigmoid(z) or, in training with noise, sigmoid((z + logistic noise)
/// / temperature), drawn per (seed, call, row key of the segment's first row, h, e). Formed in double, from
/// ln g. Parameter "task_logits" [tasks, H * E].
template <class RealType>
class TaskMixer {
 public:
  using Real = RealType;
  using Options = TaskMixerOptions;
  struct Gradients {
    Buffer<Real> logit;  // [tasks, H * E]
  };
  struct Tape {
    impl::Writer writer;
    Buffer<double> slope;  // [S, H * E] d ln g / d z
  };
  static constexpr const char* kName = "task_mixer";

  /// Logits of 0. Throws config_error for sizes below 1 and a temperature that is not a finite number > 0.
  explicit TaskMixer(const Options& options) : options_(options) {
    require_range("tasks", options.tasks, 1, INT32_MAX);
    require_range("experts", options.experts, 1, INT32_MAX);
    require_range("heads", options.heads, 1, INT32_MAX);
    if (!(options.temperature > 0 && is_finite(1 / options.temperature) && is_finite(options.temperature))) {
      fail<config_error>("temperature: expected a finite number > 0, got ", options.temperature);
    }
    logit_.assign(checked_product("task logits", options.tasks, options.experts, options.heads), Real{0});
  }

  static constexpr Coupling coupling(bool) noexcept { return Coupling::per_segment; }
  Index tasks() const noexcept { return options_->tasks; }
  Index experts() const noexcept { return options_->experts; }
  Index heads() const noexcept { return options_->heads; }
  Index width() const noexcept { return 0; }

  /// Uniform in +-scale, as the released code.
  void initialise(std::uint64_t seed, double scale = 1e-3) {
    const KeyedRandom draw(seed, 0, DrawStream::initialise);
    for (Index i = 0; i < logit_.size(); ++i) {
      logit_[i] = static_cast<Real>(scale * (2 * draw.uniform(static_cast<std::uint64_t>(i), 0) - 1));
    }
  }

  /// Throws config_error for any option or mask, without tasks, for segments of several, and for noise
  /// without draws; route_error for a task that is not there.
  void check_call(const RouterInput<Real>& in) const {
    impl::require_there("mixer", identity_ && experts() > 0);
    impl::refuse_option("experts per token", in.options.experts_per_token, "a mixture by tasks");
    impl::refuse_score_options(in.options, "a mixture by tasks");
    if (in.logit_mask) fail<config_error>("logit_mask: expected none for a mixture by tasks, got one");
    if (noisy(in)) in.require_draws("a mixture with relaxed draws");
    if (in.tokens() > 0 && in.task.empty()) {
      fail<config_error>("task: expected ", in.tokens(), " tasks, one for each row, got none");
    }
    for (Index s = 0; s < in.segments.count(in.tokens()); ++s) {
      const Index first = first_row(in, s), end = in.segments.end(s, in.tokens());
      for (Index t = first; t < end; ++t) {
        if (!in.takes_part(t)) continue;
        const Index task = in.task[t];
        if (task < 0 || task >= tasks()) {
          fail<route_error>("task: expected numbers in [0, ", tasks(), "), got ", task, " for token ", t);
        }
        if (task != Index{in.task[first]}) {
          fail<config_error>("task: expected one for all rows of a segment, got ", Index{in.task[first]},
                             " and ", task, " for tokens ", first, " and ", t);
        }
      }
    }
  }

  void measure(Arena& arena, const CallShape&, Index) const { take_row(arena), take_row(arena); }
  void measure_backward(Arena& arena, const CallShape&, Index) const { take_row(arena); }

  /// Throws what check_call throws, and numeric_error for logits of a task that are not finite.
  template <Executor X>
  void mix(const RouterInput<Real>& in, const MatrixView<Real>& p, bool*, Tape* tape, Arena& arena,
           X&) const {
    check_call(in);
    const Index n = heads() * experts();
    double *const gate = take_row(arena), *const slope = take_row(arena);
    if (tape != nullptr) {
      tape->writer.clear();
      tape->slope.resize(checked_product("tape", p.rows, n));
    }
    for (Index s = 0; s < p.rows; ++s) {
      const Index t = first_row(in, s);
      if (t == in.segments.end(s, in.tokens())) {
        for (Index i = 0; i < n; ++i) p(s, i) = 0;
        continue;
      }
      gates(in, t, in.key(in.segments.begin(s)), gate, slope);
      for (Index h = 0; h < heads(); ++h) {
        const double* const own = gate + h * experts();
        double highest = own[0], sum = 0;
        for (Index e = 1; e < experts(); ++e) highest = own[e] > highest ? own[e] : highest;
        for (Index e = 0; e < experts(); ++e) sum += ::exp(own[e] - highest);
        for (Index e = 0; e < experts(); ++e) {
          p(s, h * experts() + e) = static_cast<Real>(::exp(own[e] - highest) / sum);
        }
      }
      for (Index i = 0; tape != nullptr && i < n; ++i) tape->slope[s * n + i] = slope[i];
    }
    if (tape != nullptr) tape->writer.set(identity_);
  }

  /// Segments are added up ascending. Throws state_error for another mixer's tape, shape_error for another
  /// one's gradients.
  template <Executor X>
  void backward(const RouterInput<Real>& in, const MatrixView<Real>& p, const Tape& tape,
                const MatrixView<Real>& dp, const MatrixView<Real>&, Gradients* gradients, Arena&, X&) const {
    tape.writer.require("tape of a mixture", identity_);
    impl::check_gradients_of(*this, gradients);
    if (gradients == nullptr) return;
    const Index n = heads() * experts();
    for (Index s = 0; s < p.rows; ++s) {
      const Index t = first_row(in, s);
      if (t == in.segments.end(s, in.tokens())) continue;
      Real* const to = gradients->logit.data() + Index{in.task[t]} * n;
      for (Index h = 0; h < heads(); ++h) {
        const Index at = h * experts();
        double through = 0;
        for (Index e = 0; e < experts(); ++e) {
          through += static_cast<double>(dp(s, at + e)) * static_cast<double>(p(s, at + e));
        }
        for (Index e = 0; e < experts(); ++e) {
          const double d = static_cast<double>(p(s, at + e)) * (static_cast<double>(dp(s, at + e)) - through);
          to[at + e] += static_cast<Real>(d * tape.slope[s * n + at + e]);
        }
      }
    }
  }

  Gradients make_gradients() const { return {Buffer<Real>(logit_.size())}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    f(Parameter<Real>{"task_logits", view(logit_),
                      gradients == nullptr ? ParameterView<Real>{} : view(gradients->logit)});
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    visit_buffer(f, "task_logits", logit_, gradients, &Gradients::logit);
  }

 private:
  double* take_row(Arena& arena) const { return arena.take<double>(heads() * experts()); }
  bool noisy(const RouterInput<Real>& in) const noexcept { return in.training && options_->noise; }
  ParameterView<Real> view(Buffer<Real>& values) const noexcept {
    const Index n = heads() * experts();
    return {values.data(), tasks(), n, 1, n, 1};
  }
  /// The first row of segment s that takes part, or its end.
  static Index first_row(const RouterInput<Real>& in, Index s) noexcept {
    Index t = in.segments.begin(s);
    while (t < in.segments.end(s, in.tokens()) && !in.takes_part(t)) ++t;
    return t;
  }

  /// gate [H, E] = ln g of row t's task, slope [H, E] = d ln g / d z.
  void gates(const RouterInput<Real>& in, Index t, std::uint64_t key, double* gate, double* slope) const {
    const Index n = heads() * experts(), task = in.task[t];
    const Real* const z = logit_.data() + task * n;
    const double inverse = noisy(in) ? 1 / options_->temperature : 1;
    for (Index i = 0; i < n; ++i) {
      if (!is_finite(z[i])) {
        fail<numeric_error>("task_logits: expected finite values, got ", z[i], " for task ", task);
      }
      double a = static_cast<double>(z[i]);
      if (noisy(in)) {
        const double u = in.random(DrawStream::logit_noise).uniform(key, static_cast<std::uint32_t>(i));
        a = (a + ::log(u) - ::log(1 - u)) * inverse;
      }
      // ln sigmoid(a) = -ln(1 + e^-a); its derivative is sigmoid(-a).
      const double small = ::exp(-(a < 0 ? -a : a));
      gate[i] = (a < 0 ? a : 0) - ::log1p(small);
      slope[i] = inverse * (a < 0 ? 1 / (1 + small) : small / (1 + small));
    }
  }

  impl::Identity identity_;
  impl::Movable<Options> options_;
  Buffer<Real> logit_;  // [tasks, H * E]
};

MOE_NAMESPACE_END
