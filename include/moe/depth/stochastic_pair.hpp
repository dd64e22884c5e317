// A layer that learns from its rows and from noisy copies of them. S2MoE, 2503.23007.
#pragma once

#include <cmath>
#include <cstddef>
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
#include "moe/core/random.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/depth/layer_calls.hpp"
#include "moe/depth/layer_group.hpp"
#include "moe/depth/pair_contrast.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/layer/call/arguments.hpp"
#include "moe/layer/call/measured_calls.hpp"
#include "moe/layer/call/output.hpp"
#include "moe/layer/call/rollback.hpp"
#include "moe/layer/concept.hpp"
#include "moe/layer/shown_parts.hpp"
#include "moe/product/projection.hpp"

MOE_NAMESPACE_BEGIN

struct StochasticPairOptions {
  double noise = 1;          // >= 0, factor of the deviations; 0: the copies are the rows themselves
  double coefficient = 0.1;  // of the contrast, see StochasticPair
  double tau = 0.1;          // > 0, its temperature
};

/// Inference: y = L(x), one pass. Training: x' = a x + b by column, a ~ N(1, (noise s)^2),
/// b ~ N(noise m, (noise s)^2), with mean m and deviation s of the column over the segment's rows (which is
/// why rows of a segment look at each other), drawn by row; u = L(x), u' = L(x'); y = g u + (1 - g) u', g =
/// sigmoid(w x + c) of the row; and the loss "pair_contrast"
///   coefficient * mean over rows t of -ln(exp(cos(u_t, u'_t) / tau) / sum over s of exp(cos(u_t, u'_s) /
///   tau)),
/// s over the rows of t's segment. m, s, a and b have no gradient. Parameters: L's, and "pair.gate.weight"
/// [1, D] and "pair.gate.bias", 0 until initialise(). Losses of both passes are added up by name, counts and
/// observer see the first. Rows that take no part are 0 and in nothing, those that L isolates in either pass
/// are NaN likewise.
template <class L>
class StochasticPair : public impl::RefusedCalls<StochasticPair<L>>,
                       public impl::MeasuredCalls<StochasticPair<L>>,
                       public impl::ShownParts<StochasticPair<L>> {
  using Refused = impl::RefusedCalls<StochasticPair>;
  using Measured = impl::MeasuredCalls<StochasticPair>;
  using Shown = impl::ShownParts<StochasticPair>;
  friend Measured;
  friend Shown;
  static_assert(TokenLayer<L>, "moe: a stochastic pair is over a TokenLayer: moe/layer/concept.hpp");

 public:
  using Real = typename L::Real;
  using Options = StochasticPairOptions;
  static constexpr bool kTrainable = L::kTrainable;

  struct Gradients {
    typename L::Gradients layer;
    typename Projection<Real>::Gradients gate;
  };
  struct LayerGradients {
    ConstMatrixView<Real> dy;
    MatrixView<Real> dx{};
    MatrixView<Real> router_dx{};  // must be absent
    double auxiliary_scale = 1;
    ConstMatrixView<Real> dcarry_out{};  // must be absent,
    MatrixView<Real> dcarry{};           // and this too
    typename L::Gradients* layer = nullptr;
    typename Projection<Real>::Gradients* gate = nullptr;

    LayerGradients() = default;
    LayerGradients(ConstMatrixView<Real> dy_, MatrixView<Real> dx_) : dy(dy_), dx(dx_) {}
    LayerGradients(ConstMatrixView<Real> dy_, MatrixView<Real> dx_, Gradients& all)
        : dy(dy_), dx(dx_), layer(&all.layer), gate(&all.gate) {}
  };

  class Tape {
   public:
    /// Rows of the call on the tape, 0 when there is none.
    Index tokens() const noexcept { return writer_ ? shape_.tokens : 0; }

   private:
    friend class StochasticPair;
    Tape(typename L::Tape first, typename L::Tape second)
        : first_(std::move(first)), second_(std::move(second)) {}

    impl::Writer writer_;
    CallShape shape_{};
    bool paired_ = false;    // the call had a second pass
    Buffer<bool> active_;    // [T]
    Buffer<Index> begin_;    // [T] of the row's segment, and
    Buffer<Index> end_;      // [T] its end
    Buffer<Real> x_;         // [T, D]
    Buffer<Real> factor_;    // [T, D] a
    Buffer<Real> first_u_;   // [T, D] u
    Buffer<Real> second_u_;  // [T, D] u'
    Buffer<Real> gate_;      // [T] g
    typename L::Tape first_, second_;
  };

  /// Throws config_error for options out of their range and a layer that hands something on.
  explicit StochasticPair(L layer, const Options& options = {})
      : layer_(std::move(layer)), options_(checked(options)), gate_(Index{layer_.width()}, 1, true) {
    if (impl::carry_width_of(layer_) != 0) {
      fail<config_error>("stochastic pair: expected a layer that hands nothing on, got one that hands on ",
                         impl::carry_width_of(layer_), " columns");
    }
  }

  /// The same gate and options over another layer: see quantise(). Throws shape_error for one of another
  /// width.
  template <class Other>
  StochasticPair<Other> with_layer(Other other) const {
    require_extent("layer of a stochastic pair", "columns", width(), Index{other.width()});
    StochasticPair<Other> made(std::move(other), options_);
    made.gate_ = gate_;
    return made;
  }

  L& layer() noexcept { return layer_; }
  const L& layer() const noexcept { return layer_; }
  const Options& options() const noexcept { return options_; }
  Index width() const noexcept { return layer_.width(); }
  Index counted_experts() const { return impl::counted_experts(layer_); }
  /// Of the gate alone.
  void initialise(std::uint64_t seed) { gate_.initialise(seed); }
  /// Deviations are of a segment's rows.
  static constexpr Coupling coupling(bool training) noexcept {
    return training ? weakest(Coupling::per_segment, L::coupling(true)) : L::coupling(false);
  }

  using Refused::backward, Refused::forward, Refused::forward_train;

  /// Y from X. Nothing is written if the layer refuses; what it throws is that layer's.
  template <Executor X = SerialExecutor>
  void forward(const LayerInput<Real>& in, LayerOutput<Real>& out, Workspace& workspace,
               X&& executor = X{}) const {
    run<void>(in, out, nullptr, workspace, executor);
  }
  Tape make_tape() const requires kTrainable { return Tape(layer_.make_tape(), layer_.make_tape()); }
  /// Same, and writes the tape. What the first pass refuses leaves the tape as it was; what the second
  /// refuses leaves an empty one.
  template <Executor X = SerialExecutor>
  void forward_train(const LayerInput<Real>& in, LayerOutput<Real>& out, Tape& tape, Workspace& workspace,
                     X&& executor = X{}) const requires kTrainable {
    run<Tape>(in, out, &tape, workspace, executor);
    tape.writer_.set(identity_);
  }

  /// Gradients of sum(dy * y) + auxiliary_scale * losses at the call on the tape; the layer's are those of
  /// the first pass, then the second. Throws as MoeLayer's, before anything is written.
  template <Executor X = SerialExecutor>
  void backward(const Tape& tape, const LayerGradients& gradients, Workspace& workspace,
                X&& executor = X{}) const requires kTrainable {
    require_there();
    tape.writer_.require("tape", identity_);
    const Index tokens = tape.shape_.tokens, n = width();
    impl::check_backward_rows(gradients, tokens, n, n);
    impl::check_carry_backward(gradients, tokens, 0, false);
    if (gradients.router_dx) {
      fail<config_error>(
          "router_dx: expected none of a layer of layers, whose routers read what experts read");
    }
    this->check_gradients(gradients);
    Arena arena = this->backward_arena(workspace, tape.shape_, executor.concurrency());
    const Backward memory(*this, arena, tape.shape_, executor.concurrency());
    const ConstMatrixView<Real> first = rows(tape.first_u_, tokens), second = rows(tape.second_u_, tokens);
    executor.parallel_for(tokens, [&](Index t, Index) noexcept {
      Real* const du = memory.du.row(t);
      Real* const dother = memory.dother.row(t);
      fill_row(Real{0}, dother, n);
      memory.dgate.row(t)[0] = 0;
      if (!tape.active_[t]) return fill_row(Real{0}, du, n);
      const Real* const dy = gradients.dy.row(t);
      if (!tape.paired_) return copy_row(dy, du, n);
      const Real g = tape.gate_[t];
      memory.dgate.row(t)[0] = g * (1 - g) * (dot(dy, first.row(t), n) - dot(dy, second.row(t), n));
      scale_row(g, dy, du, n);
      scale_row(1 - g, dy, dother, n);
    });
    if (tape.paired_) {
      const impl::PairContrast<Real> contrast(memory.contrast, tape.active_.data(), tape.begin_.data(),
                                              tape.end_.data(), first, second, options_.tau);
      contrast.form(executor);
      const double scale = gradients.auxiliary_scale * options_.coefficient;
      contrast.backward(scale, memory.du, memory.dother, executor);
    }
    Workspace inner = impl::fixed_workspace(memory.inner, memory.bytes);
    layer_.backward(tape.first_, of_layer(gradients, memory.du, gradients.dx), inner, executor);
    if (!tape.paired_) return;
    layer_.backward(tape.second_,
                    of_layer(gradients, memory.dother, gradients.dx ? memory.dx : MatrixView<Real>{}), inner,
                    executor);
    if (gradients.dx) {
      executor.parallel_for(tokens, [&](Index t, Index) noexcept {
        if (tape.active_[t]) fma_row(tape.factor_.data() + t * n, memory.dx.row(t), gradients.dx.row(t), n);
      });
    }
    gate_.backward(rows(tape.x_, tokens), memory.dgate, gradients.dx, gradients.gate, arena, executor);
  }

  Gradients make_gradients() const requires kTrainable {
    return {layer_.make_gradients(), gate_.make_gradients()};
  }

 private:
  template <class Other>
  friend class StochasticPair;

  template <class Visit>
  void each_part(const LayerGradients& gradients, Visit&& visit) {
    impl::NamedPart<Projection<Real>> gate{gate_, "pair.gate"};
    visit(layer_, gradients.layer);
    visit(gate, gradients.gate);
  }

  struct Forward {
    MatrixView<Real> first, second, noisy, factor;  // [T, D] u, u', x', a
    MatrixView<Real> gate;                          // [T, 1]
    impl::ContrastMemory contrast;
    bool* active;    // [T]
    Index* begin;    // [T]
    Index* end;      // [T]
    double* mean;    // [D]
    double* spread;  // [D]
    Index bytes;
    std::byte* inner;
    impl::CallRollback rollback;

    Forward(const StochasticPair& of, Arena& arena, const CallShape& shape, Mode mode, Index concurrency,
            DrawCounter* draws, RouteStats* stats)
        : first(take(of, arena, shape)),
          second(take(of, arena, shape)),
          noisy(take(of, arena, shape)),
          factor(take(of, arena, shape)),
          gate(impl::take_rows<Real>(arena, shape.tokens, 1)),
          contrast(arena, shape.tokens, of.width()),
          active(arena.take<bool>(shape.tokens)),
          begin(arena.take<Index>(shape.tokens)),
          end(arena.take<Index>(shape.tokens)),
          mean(arena.take<double>(of.width())),
          spread(arena.take<double>(of.width())),
          bytes(of.layer_.workspace_bytes(shape, mode, concurrency)),
          inner(arena.take<std::byte>(bytes)),
          rollback(draws, stats, impl::LayerCounts{of.layer_}, arena) {
      if (!arena.measuring()) return;
      const Index mark = arena.mark();
      of.gate_.measure(arena, shape.tokens);
      arena.rewind(mark);
    }
    static MatrixView<Real> take(const StochasticPair& of, Arena& arena, const CallShape& shape) {
      return impl::take_rows<Real>(arena, shape.tokens, of.width());
    }
  };
  struct Backward {
    MatrixView<Real> du, dother, dx;  // [T, D]
    MatrixView<Real> dgate;           // [T, 1]
    impl::ContrastMemory contrast;
    Index bytes;
    std::byte* inner;

    Backward(const StochasticPair& of, Arena& arena, const CallShape& shape, Index concurrency)
        : du(Forward::take(of, arena, shape)),
          dother(Forward::take(of, arena, shape)),
          dx(Forward::take(of, arena, shape)),
          dgate(impl::take_rows<Real>(arena, shape.tokens, 1)),
          contrast(arena, shape.tokens, of.width()),
          bytes(of.layer_.workspace_bytes(shape, Mode::training, concurrency)),
          inner(arena.take<std::byte>(bytes)) {
      if (!arena.measuring()) return;
      const Index mark = arena.mark();
      of.gate_.measure_backward(arena, shape.tokens, concurrency);
      arena.rewind(mark);
    }
  };

  static const Options& checked(const Options& o) {
    if (!(o.noise >= 0 && is_finite(o.noise))) {
      fail<config_error>("stochastic pair noise: expected a finite value >= 0, got ", o.noise);
    }
    if (!is_finite(o.coefficient)) {
      fail<config_error>("stochastic pair: expected a finite coefficient, got ", o.coefficient);
    }
    if (!(o.tau > 0 && is_finite(o.tau))) {
      fail<config_error>("stochastic pair tau: expected a finite value > 0, got ", o.tau);
    }
    return o;
  }
  void measure_forward(Arena& arena, const CallShape& shape, Mode mode, Index concurrency) const {
    require_there();
    static_cast<void>(Forward(*this, arena, shape, mode, concurrency, nullptr, nullptr));
  }
  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    static_cast<void>(Backward(*this, arena, shape, concurrency));
  }
  void require_there() const { impl::require_there("stochastic pair", static_cast<bool>(identity_)); }

  ConstMatrixView<Real> rows(const Buffer<Real>& of, Index tokens) const {
    ConstMatrixView<Real> view;
    view.data = of.data();
    view.rows = tokens;
    view.cols = view.stride = width();
    return view;
  }
  typename L::LayerGradients of_layer(const LayerGradients& of, const ConstMatrixView<Real>& dy,
                                      const MatrixView<Real>& dx) const {
    typename L::LayerGradients own;
    if (of.layer != nullptr) own = typename L::LayerGradients({}, {}, *of.layer);
    own.dy = dy;
    own.dx = dx;
    own.auxiliary_scale = of.auxiliary_scale;
    return own;
  }

  /// `tape` is null in forward().
  template <class TapeType, Executor X>
  void run(const LayerInput<Real>& in, LayerOutput<Real>& out, TapeType* tape, Workspace& workspace,
           X& executor) const {
    constexpr bool kTaped = !std::is_void_v<TapeType>;
    require_there();
    const bool training = in.mode == Mode::training || (in.mode == Mode::by_call && kTaped);
    const Index tokens = in.x.rows, n = width();
    impl::check_layers_call(in, out, n, n, 0, coupling(training), training);
    if (training && options_.noise > 0 && in.draws == nullptr) impl::refuse_no_draws("a stochastic pair");
    const CallShape shape{tokens, in.segments.count(tokens), in.options};
    const Mode mode = kTaped ? Mode::training : Mode::inference;
    Arena arena = this->forward_arena(workspace, shape, mode, executor.concurrency());
    Forward memory(*this, arena, shape, mode, executor.concurrency(), in.draws, out.stats);
    const DrawKey key = in.draws == nullptr ? DrawKey{} : in.draws->key();

    LayerInput<Real> own = impl::borrow_input(in, in.x);
    LayerOutput<Real> first(memory.first), second(memory.second);
    first.stats = out.stats;
    first.observer = out.observer;
    Workspace inner = impl::fixed_workspace(memory.inner, memory.bytes);
    if constexpr (kTaped) {
      layer_.forward_train(own, first, tape->first_, inner, executor);
      tape->writer_.clear();
    } else {
      layer_.forward(own, first, inner, executor);
    }
    AuxiliaryLosses losses = first.losses;
    if (training) {
      add_noise(in, key, memory, executor);
      own.x = memory.noisy;
      if constexpr (kTaped) {
        layer_.forward_train(own, second, tape->second_, inner, executor);
      } else {
        layer_.forward(own, second, inner, executor);
      }
      losses.add(second.losses);
      gate_.forward(in.x, memory.gate, arena, executor);
    }
    executor.parallel_for(tokens, [&](Index t, Index) noexcept {
      const bool takes_part = impl::takes_part(in, t);
      const Real* const u = memory.first.row(t);
      const Real* const other = training ? memory.second.row(t) : u;
      memory.active[t] = takes_part && !impl::is_spoiled(u, n) && !impl::is_spoiled(other, n);
      Real* const y = out.y.row(t);
      if (!memory.active[t]) {
        return fill_row(takes_part ? std::numeric_limits<Real>::quiet_NaN() : Real{0}, y, n);
      }
      if (!training) return copy_row(u, y, n);
      Real& gate = memory.gate.row(t)[0];
      gate = 1 / (1 + std::exp(-gate));
      for (Index j = 0; j < n; ++j) y[j] = other[j] + gate * (u[j] - other[j]);
    });
    if (training) {
      const impl::PairContrast<Real> contrast(memory.contrast, memory.active, memory.begin, memory.end,
                                              memory.first, memory.second, options_.tau);
      contrast.form(executor);
      if (options_.coefficient != 0) losses.add("pair_contrast", options_.coefficient * contrast.loss());
    }
    if constexpr (kTaped) {
      tape->shape_ = shape;
      tape->paired_ = training;
      tape->active_.copy_from(memory.active, tokens);
      if (training) {
        tape->begin_.copy_from(memory.begin, tokens);
        tape->end_.copy_from(memory.end, tokens);
        tape->x_.resize(tokens * n);
        tape->gate_.copy_from(memory.gate.data, tokens);
        tape->factor_.copy_from(memory.factor.data, tokens * n);
        tape->first_u_.copy_from(memory.first.data, tokens * n);
        tape->second_u_.copy_from(memory.second.data, tokens * n);
        // A row that takes no part may hold anything; its d gate is 0.
        for (Index t = 0; t < tokens; ++t) {
          Real* const to = tape->x_.data() + t * n;
          memory.active[t] ? copy_row(in.x.row(t), to, n) : fill_row(Real{0}, to, n);
        }
      }
    }
    out.losses = losses;
    memory.rollback.keep();
  }

  /// x' and a, and where the rows' segments are.
  template <class X>
  void add_noise(const LayerInput<Real>& in, const DrawKey& key, const Forward& memory, X& executor) const {
    const Index tokens = in.x.rows, n = width();
    const auto open = [&](Index t) { return impl::takes_part(in, t) && all_finite(in.x.row(t), n); };
    const KeyedRandom draw(key, DrawStream::row_noise);
    for (Index segment = 0; segment < in.segments.count(tokens); ++segment) {
      const Index begin = in.segments.begin(segment), end = in.segments.end(segment, tokens);
      moments(in, begin, end, open, memory);
      executor.parallel_for(end - begin, [&](Index i, Index) noexcept {
        const Index t = begin + i;
        memory.begin[t] = begin;
        memory.end[t] = end;
        const std::uint64_t row = in.row_key.empty() ? static_cast<std::uint64_t>(t) : in.row_key[t];
        Real* const a = memory.factor.row(t);
        Real* const to = memory.noisy.row(t);
        if (!impl::takes_part(in, t)) {
          fill_row(Real{0}, a, n);
          return fill_row(Real{0}, to, n);
        }
        for (Index j = 0; j < n; ++j) {
          const double deviation = options_.noise * memory.spread[j];
          const auto lane = static_cast<std::uint32_t>(2 * j);
          const double factor = 1 + deviation * draw.normal(row, lane);
          const double shift = options_.noise * memory.mean[j] + deviation * draw.normal(row, lane + 1);
          a[j] = static_cast<Real>(factor);
          to[j] = static_cast<Real>(factor * static_cast<double>(in.x(t, j)) + shift);
        }
      });
    }
  }
  /// Mean and deviation of every column over the rows that are there.
  template <class Open>
  void moments(const LayerInput<Real>& in, Index begin, Index end, const Open& open,
               const Forward& memory) const noexcept {
    const Index n = width();
    Index rows = 0;
    for (Index j = 0; j < n; ++j) memory.mean[j] = memory.spread[j] = 0;
    for (Index t = begin; t < end; ++t) {
      if (!open(t)) continue;
      ++rows;
      for (Index j = 0; j < n; ++j) memory.mean[j] += static_cast<double>(in.x(t, j));
    }
    if (rows == 0) return;
    for (Index j = 0; j < n; ++j) memory.mean[j] /= static_cast<double>(rows);
    for (Index t = begin; t < end; ++t) {
      for (Index j = 0; open(t) && j < n; ++j) {
        const double off = static_cast<double>(in.x(t, j)) - memory.mean[j];
        memory.spread[j] += off * off;
      }
    }
    for (Index j = 0; j < n; ++j) memory.spread[j] = std::sqrt(memory.spread[j] / static_cast<double>(rows));
  }

  L layer_;
  Options options_;
  Projection<Real> gate_;
  impl::Identity identity_;
};

/// A Mixture-of-Experts of any kind as a stochastic pair.
template <class L>
using S2Moe = StochasticPair<L>;

/// Throws config_error for options out of their range. The paper's inference takes one expert a token: K = 1
/// as an option of the call.
template <class L>
S2Moe<L> s2moe(L layer, const StochasticPairOptions& options = {}) {
  return S2Moe<L>(std::move(layer), options);
}

/// The layer's, with the same gate.
template <class To, class L>
auto quantise(const StochasticPair<L>& pair) {
  return pair.with_layer(quantise<To>(pair.layer()));
}

MOE_NAMESPACE_END
