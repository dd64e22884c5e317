// Momentum over depth: a layer's residual step goes where the steps of the layers before it went, too. Teo
// and Nguyen, 2410.14574 (MomentumSMoE, AdamSMoE). The moments p, v of every row go from layer to layer as a
// carry.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/depth/layer_calls.hpp"
#include "moe/depth/layer_group.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/layer/call/arguments.hpp"
#include "moe/layer/call/measured_calls.hpp"
#include "moe/layer/call/output.hpp"
#include "moe/layer/concept.hpp"
#include "moe/plan/statistics.hpp"

MOE_NAMESPACE_BEGIN

/// What becomes of x: the paper adds the step, the authors' code takes it away, which the experts' weights
/// learn.
enum class StepSign : std::uint8_t { plus, minus };

struct HeavyBallOptions {
  double mu = 0.7;   // in [0, 1); 0.9 in the authors' code
  double gamma = 1;  // finite
  StepSign sign = StepSign::plus;
};

/// p = mu p_before + gamma u, y = x +- p.
class HeavyBall {
 public:
  using Options = HeavyBallOptions;
  static constexpr const char* kName = "heavy_ball";

  HeavyBall() = default;
  /// Throws config_error for options out of their range.
  explicit HeavyBall(const Options& options) : options_(options) {
    if (!(options.mu >= 0 && options.mu < 1)) {
      fail<config_error>("momentum mu: expected a value in [0, 1), got ", options.mu);
    }
    if (!is_finite(options.gamma)) {
      fail<config_error>("momentum gamma: expected a finite value, got ", options.gamma);
    }
  }

  /// Moments that a row has, D numbers each, and how many of them are handed on.
  static constexpr Index moments() noexcept { return 1; }
  static constexpr Index carried() noexcept { return 1; }
  /// Whether backward reads u and the moments.
  static constexpr bool kReadsRows = false;

  /// moments [D] and y [D] from x, u [D] and the moments before, null for none.
  template <class Real>
  void forward(const Real* x, const Real* u, const Real* before, Real* moments, Real* y,
               Index n) const noexcept {
    scale_row(static_cast<Real>(options_.gamma), u, moments, n);
    if (before != nullptr) axpy_row(static_cast<Real>(options_.mu), before, moments, n);
    copy_row(x, y, n);
    axpy_row(static_cast<Real>(sign()), moments, y, n);
  }
  /// Adds what dy brings to d moments, and du from the sum.
  template <class Real>
  void backward(const Real*, const Real*, const Real* dy, Real* dmoments, Real* du, Index n) const noexcept {
    axpy_row(static_cast<Real>(sign()), dy, dmoments, n);
    scale_row(static_cast<Real>(options_.gamma), dmoments, du, n);
  }
  /// d of the moments before.
  template <class Real>
  void backward_before(const Real* dmoments, Real* dbefore, Index n) const noexcept {
    scale_row(static_cast<Real>(options_.mu), dmoments, dbefore, n);
  }
  /// dy/dx beside u.
  double residual() const noexcept { return 1; }

 private:
  double sign() const noexcept { return options_.sign == StepSign::plus ? 1.0 : -1.0; }

  Options options_{};
};

struct AdamMomentsOptions {
  double beta1 = 0.9;     // in [0, 1)
  double beta2 = 0.999;   // in [0, 1)
  double gamma = 1;       // finite
  double epsilon = 1e-8;  // > 0, under the root
  StepSign sign = StepSign::plus;
  double residual = 1;         // factor of x: 1 is a residual; in the authors' code x - (step + x), it is 0
  bool carries_square = true;  // false: v starts at 0 and p alone is handed on, to layers with a HeavyBall
};

/// p = beta1 p_before + (1 - beta1) u, v = beta2 v_before + (1 - beta2) u^2,
/// y = residual x +- gamma p / sqrt(v + epsilon).
class AdamMoments {
 public:
  using Options = AdamMomentsOptions;
  static constexpr const char* kName = "adam_moments";

  AdamMoments() = default;
  /// Throws config_error for options out of their range.
  explicit AdamMoments(const Options& options) : options_(options) {
    for (const double beta : {options.beta1, options.beta2}) {
      if (!(beta >= 0 && beta < 1))
        fail<config_error>("adam moments beta: expected a value in [0, 1), got ", beta);
    }
    if (!(options.epsilon > 0 && is_finite(options.epsilon))) {
      fail<config_error>("adam moments epsilon: expected a finite value > 0, got ", options.epsilon);
    }
    for (const double factor : {options.gamma, options.residual}) {
      if (!is_finite(factor)) {
        fail<config_error>("adam moments gamma and residual: expected finite values, got ", factor);
      }
    }
  }

  static constexpr Index moments() noexcept { return 2; }
  Index carried() const noexcept { return options_.carries_square ? 2 : 1; }
  static constexpr bool kReadsRows = true;

  template <class Real>
  MOE_NOINLINE void forward(const Real* x, const Real* u, const Real* before, Real* moments, Real* y,
                            Index n) const noexcept {
    const auto b1 = static_cast<Real>(options_.beta1), b2 = static_cast<Real>(options_.beta2);
    const Real* const v_before = before != nullptr && options_.carries_square ? before + n : nullptr;
    for (Index j = 0; j < n; ++j) {
      const Real p = (before == nullptr ? Real{0} : b1 * before[j]) + (1 - b1) * u[j];
      const Real v = (v_before == nullptr ? Real{0} : b2 * v_before[j]) + (1 - b2) * u[j] * u[j];
      moments[j] = p;
      moments[n + j] = v;
      y[j] = static_cast<Real>(options_.residual) * x[j] + step<Real>() * p / root(v);
    }
  }
  template <class Real>
  MOE_NOINLINE void backward(const Real* u, const Real* moments, const Real* dy, Real* dmoments, Real* du,
                             Index n) const noexcept {
    const auto b1 = static_cast<Real>(options_.beta1), b2 = static_cast<Real>(options_.beta2);
    for (Index j = 0; j < n; ++j) {
      const Real r = root(moments[n + j]), along = step<Real>() * dy[j] / r;
      dmoments[j] += along;
      dmoments[n + j] -= along * moments[j] / (2 * r * r);
      du[j] = (1 - b1) * dmoments[j] + 2 * (1 - b2) * u[j] * dmoments[n + j];
    }
  }
  template <class Real>
  void backward_before(const Real* dmoments, Real* dbefore, Index n) const noexcept {
    scale_row(static_cast<Real>(options_.beta1), dmoments, dbefore, n);
    if (options_.carries_square) scale_row(static_cast<Real>(options_.beta2), dmoments + n, dbefore + n, n);
  }
  double residual() const noexcept { return options_.residual; }

 private:
  template <class Real>
  Real step() const noexcept {
    return static_cast<Real>(options_.sign == StepSign::plus ? options_.gamma : -options_.gamma);
  }
  template <class Real>
  Real root(Real v) const noexcept {
    return std::sqrt(v + static_cast<Real>(options_.epsilon));
  }

  Options options_{};
};

/// u = L(x), and x, u and the moments that came with the column `carry` (0 if there is none) make y and the
/// moments that LayerOutput::carry hands on, [T, D] or, of p and v side by side, [T, 2 D]. Rows that take no
/// part are 0 and hand on 0, rows that L isolates are NaN and hand on 0. Parameters, losses and all the rest
/// are L's. Chain puts such layers one after the other.
template <class L, class Rule = HeavyBall>
class Momentum : public impl::RefusedCalls<Momentum<L, Rule>>, public impl::MeasuredCalls<Momentum<L, Rule>> {
  using Refused = impl::RefusedCalls<Momentum>;
  using Measured = impl::MeasuredCalls<Momentum>;
  friend Measured;
  static_assert(TokenLayer<L>, "moe: momentum is over a TokenLayer: moe/layer/concept.hpp");
  static_assert(
      requires(typename L::LayerGradients g) {
        g.dcarry_out;
        g.dcarry;
      },
      "moe: momentum is over a layer whose LayerGradients have dcarry_out and dcarry");

 public:
  using Real = typename L::Real;
  using Gradients = typename L::Gradients;
  using LayerGradients = typename L::LayerGradients;
  static constexpr bool kTrainable = L::kTrainable;

  class Tape {
   public:
    /// Rows of the call on the tape, 0 when there is none.
    Index tokens() const noexcept { return writer_ ? shape_.tokens : 0; }
    const typename L::Tape& layer() const noexcept { return layer_; }

   private:
    friend class Momentum;
    explicit Tape(typename L::Tape layer) : layer_(std::move(layer)) {}

    impl::Writer writer_;
    CallShape shape_{};
    bool had_carry_ = false;
    Buffer<bool> active_;   // [T]
    Buffer<Real> u_;        // [T, D] and
    Buffer<Real> moments_;  // [T, moments D] if the rule's backward reads them
    typename L::Tape layer_;
  };

  /// Throws config_error for a layer that hands on something of its own.
  explicit Momentum(L layer, Rule rule = Rule{}) : layer_(std::move(layer)), rule_(std::move(rule)) {
    if (impl::carry_width_of(layer_) != 0) {
      fail<config_error>("momentum: expected a layer that hands nothing on, got one that hands on ",
                         impl::carry_width_of(layer_), " columns");
    }
  }

  L& layer() noexcept { return layer_; }
  const L& layer() const noexcept { return layer_; }
  const Rule& rule() const noexcept { return rule_; }
  Index width() const noexcept { return layer_.width(); }
  Index carry_width() const noexcept { return rule_.carried() * width(); }
  Index counted_experts() const { return impl::counted_experts(layer_); }
  static constexpr Coupling coupling(bool training) noexcept { return L::coupling(training); }

  template <class Visitor>
  void visit_names(Visitor&& f) const {
    if constexpr (requires { layer_.visit_names(f); }) layer_.visit_names(f);
    f("momentum", Rule::kName);
  }

  using Refused::backward, Refused::forward, Refused::forward_train;

  /// Y from X. Nothing is written if the layer refuses; what it throws is that layer's.
  template <Executor X = SerialExecutor>
  void forward(const LayerInput<Real>& in, LayerOutput<Real>& out, Workspace& workspace,
               X&& executor = X{}) const {
    run<void>(in, out, nullptr, workspace, executor);
  }
  Tape make_tape() const requires kTrainable { return Tape(layer_.make_tape()); }
  /// Same, and writes the tape.
  template <Executor X = SerialExecutor>
  void forward_train(const LayerInput<Real>& in, LayerOutput<Real>& out, Tape& tape, Workspace& workspace,
                     X&& executor = X{}) const requires kTrainable {
    run<Tape>(in, out, &tape, workspace, executor);
    tape.writer_.set(identity_);
  }

  /// Gradients of sum(dy * y) + sum(dcarry_out * carry) + auxiliary_scale * losses at the call on the tape.
  /// Throws as MoeLayer's, before anything is written.
  template <Executor X = SerialExecutor>
  void backward(const Tape& tape, const LayerGradients& gradients, Workspace& workspace,
                X&& executor = X{}) const requires kTrainable {
    require_there();
    tape.writer_.require("tape", identity_);
    const Index tokens = tape.shape_.tokens, n = width();
    impl::check_backward_rows(gradients, tokens, n, n);
    impl::check_carry_backward(gradients, tokens, carry_width(), tape.had_carry_);
    Arena arena = this->backward_arena(workspace, tape.shape_, executor.concurrency());
    const Memory memory(*this, arena, tape.shape_, Mode::training, executor.concurrency());
    executor.parallel_for(tokens, [&](Index t, Index) noexcept {
      Real* const dmoments = memory.moments.row(t);
      fill_row(Real{0}, memory.u.row(t), n);
      fill_row(Real{0}, dmoments, memory.moments.cols);
      if (!tape.active_[t]) return;
      if (gradients.dcarry_out) copy_row(gradients.dcarry_out.row(t), dmoments, carry_width());
      rule_.backward(tape.u_.data() + (Rule::kReadsRows ? t * n : 0),
                     tape.moments_.data() + (Rule::kReadsRows ? t * memory.moments.cols : 0),
                     gradients.dy.row(t), dmoments, memory.u.row(t), n);
    });
    LayerGradients own = gradients;
    own.dy = memory.u;
    own.dcarry_out = {};
    own.dcarry = {};
    Workspace inner = impl::fixed_workspace(memory.inner, memory.bytes);
    layer_.backward(tape.layer_, own, inner, executor);
    executor.parallel_for(tokens, [&](Index t, Index) noexcept {
      if (gradients.dx && tape.active_[t]) {
        axpy_row(static_cast<Real>(rule_.residual()), gradients.dy.row(t), gradients.dx.row(t), n);
      }
      if (gradients.dcarry) rule_.backward_before(memory.moments.row(t), gradients.dcarry.row(t), n);
    });
  }

  Gradients make_gradients() const requires kTrainable { return layer_.make_gradients(); }
  template <class Visitor>
  void visit_parameters(Visitor&& f) {
    layer_.visit_parameters(f);
  }
  template <class Visitor>
  void visit_parameters(Visitor&& f) const {
    layer_.visit_parameters(f);
  }
  template <class Visitor>
  void visit_parameters(Gradients& gradients, Visitor&& f) {
    layer_.visit_parameters(gradients, f);
  }
  template <class Visitor>
  void visit_storage(Gradients& gradients, Visitor&& f) {
    layer_.visit_storage(gradients, f);
  }
  template <class Visitor>
  void visit_storage(const LayerGradients& gradients, Visitor&& f) {
    layer_.visit_storage(gradients, f);
  }
  template <class Visitor>
  void visit_storage(Gradients& gradients, Visitor&& f) const {
    layer_.visit_storage(gradients, f);
  }
  template <class Visitor>
  void visit_packed(Visitor&& f) {
    impl::visit_packed_of(layer_, f);
  }
  template <class Visitor>
  void visit_packed(Visitor&& f) const {
    impl::visit_packed_of(layer_, f);
  }
  template <class Visitor>
  void visit_state(Visitor&& f) {
    impl::visit_state_of(layer_, f);
  }
  template <class Visitor>
  void visit_state(Visitor&& f) const {
    impl::visit_state_of(layer_, f);
  }
  void zero_gradients(Gradients& gradients) const requires kTrainable { layer_.zero_gradients(gradients); }
  void on_step_end(const RouteStats& stats) requires kTrainable { impl::on_step_end_of(layer_, stats); }

  // The layer's parts, for chains of layers that share them.
  auto& router() noexcept requires impl::ShowsParts<L> { return layer_.router(); }
  const auto& router() const noexcept requires impl::ShowsParts<L> { return layer_.router(); }
  auto& experts() noexcept requires impl::ShowsParts<L> { return layer_.experts(); }
  const auto& experts() const noexcept requires impl::ShowsParts<L> { return layer_.experts(); }
  template <class Visit>
  void visit_parts(const LayerGradients& gradients, Visit&& visit) requires impl::ShowsParts<L> {
    layer_.visit_parts(gradients, visit);
  }

 private:
  /// What a call takes, either way.
  struct Memory {
    MatrixView<Real> u;        // [T, D], or its gradient
    MatrixView<Real> moments;  // [T, moments D], or their gradient
    Index bytes;
    std::byte* inner;

    Memory(const Momentum& of, Arena& arena, const CallShape& shape, Mode mode, Index concurrency)
        : u(impl::take_rows<Real>(arena, shape.tokens, of.width())),
          moments(impl::take_rows<Real>(arena, shape.tokens,
                                        checked_product("moments", of.rule_.moments(), of.width()))),
          bytes(of.layer_.workspace_bytes(shape, mode, concurrency)),
          inner(arena.take<std::byte>(bytes)) {}
  };

  void measure_forward(Arena& arena, const CallShape& shape, Mode mode, Index concurrency) const {
    require_there();
    static_cast<void>(Memory(*this, arena, shape, mode, concurrency));
  }
  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    measure_forward(arena, shape, Mode::training, concurrency);
  }
  void require_there() const { impl::require_there("momentum", static_cast<bool>(identity_)); }

  /// Of rows that take part: p is finite, v finite and not below 0.
  void check_moments(const LayerInput<Real>& in) const {
    for (Index t = 0; in.carry && t < in.x.rows; ++t) {
      for (Index i = 0; i < in.carry.cols && impl::takes_part(in, t); ++i) {
        const Real value = in.carry(t, i);
        if (is_finite(value) && (i < width() || value >= 0)) continue;
        fail<numeric_error>("carry: expected finite moments, the second at least 0, got ", value,
                            " for token ", t);
      }
    }
  }

  /// `tape` is null in forward().
  template <class TapeType, Executor X>
  void run(const LayerInput<Real>& in, LayerOutput<Real>& out, TapeType* tape, Workspace& workspace,
           X& executor) const {
    constexpr bool kTaped = !std::is_void_v<TapeType>;
    require_there();
    const bool training = in.mode == Mode::training || (in.mode == Mode::by_call && kTaped);
    const Index tokens = in.x.rows, n = width();
    impl::check_layers_call(in, out, n, n, carry_width(), coupling(training), training);
    check_moments(in);
    const CallShape shape{tokens, in.segments.count(tokens), in.options};
    const Mode mode = kTaped ? Mode::training : Mode::inference;
    Arena arena = this->forward_arena(workspace, shape, mode, executor.concurrency());
    const Memory memory(*this, arena, shape, mode, executor.concurrency());
    LayerInput<Real> own = impl::borrow_input(in, in.x);
    own.carry = {};
    LayerOutput<Real> after(memory.u);
    after.stats = out.stats;
    after.observer = out.observer;
    Workspace inner = impl::fixed_workspace(memory.inner, memory.bytes);
    if constexpr (kTaped) {
      layer_.forward_train(own, after, tape->layer_, inner, executor);
      tape->writer_.clear();
      tape->shape_ = shape;
      tape->had_carry_ = static_cast<bool>(in.carry);
      tape->active_.resize(tokens);
      if constexpr (Rule::kReadsRows) {
        tape->u_.resize(tokens * n);
        tape->moments_.resize(tokens * memory.moments.cols);
      }
    } else {
      layer_.forward(own, after, inner, executor);
    }
    executor.parallel_for(tokens, [&](Index t, Index) noexcept {
      const Real* const u = memory.u.row(t);
      Real* const moments = memory.moments.row(t);
      const bool takes_part = impl::takes_part(in, t), active = takes_part && !impl::is_spoiled(u, n);
      if (active) {
        rule_.forward(in.x.row(t), u, in.carry ? in.carry.row(t) : nullptr, moments, out.y.row(t), n);
      } else {
        fill_row(takes_part ? std::numeric_limits<Real>::quiet_NaN() : Real{0}, out.y.row(t), n);
        fill_row(Real{0}, moments, memory.moments.cols);
      }
      if (out.carry) copy_row(moments, out.carry.row(t), carry_width());
      if constexpr (kTaped) {
        tape->active_[t] = active;
        if constexpr (Rule::kReadsRows) {
          copy_row(u, tape->u_.data() + t * n, n);
          copy_row(moments, tape->moments_.data() + t * memory.moments.cols, memory.moments.cols);
        }
      }
    });
    out.losses = after.losses;
  }

  L layer_;
  Rule rule_;
  impl::Identity identity_;
};

template <class L>
using MomentumSmoe = Momentum<L, HeavyBall>;
template <class L>
using AdamSmoe = Momentum<L, AdamMoments>;

/// `layer` with heavy-ball momentum. Throws config_error for options out of their range.
template <class L>
MomentumSmoe<L> momentum_smoe(L layer, const HeavyBallOptions& options = {}) {
  return MomentumSmoe<L>(std::move(layer), HeavyBall(options));
}
/// `layer` with Adam's moments; the authors have it first and MomentumSmoe behind it (carries_square false).
/// Throws config_error for options out of their range.
template <class L>
AdamSmoe<L> adam_smoe(L layer, const AdamMomentsOptions& options = {}) {
  return AdamSmoe<L>(std::move(layer), AdamMoments(options));
}

/// The layer's, with the same rule.
template <class To, class L, class Rule>
auto quantise(const Momentum<L, Rule>& momentum) {
  auto layer = quantise<To>(momentum.layer());
  return Momentum<decltype(layer), Rule>(std::move(layer), momentum.rule());
}

MOE_NAMESPACE_END
