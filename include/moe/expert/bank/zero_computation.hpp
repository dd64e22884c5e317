// Experts that cost next to nothing (MoE++, arXiv:2410.07348): zero f(x) = 0, copy f(x) = x, and constant
// f(x) = a1 x + a2 v with [a1, a2] = softmax(Wc x). Rows of zero and copy experts are never touched: their
// results are "nothing" and the row itself.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/random.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/expert/concept.hpp"
#include "moe/expert/slot_tasks.hpp"
#include "moe/kernel/math.hpp"
#include "moe/kernel/row.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

struct ZeroComputationOptions {
  Index width = 0;  // D >= 1
  Index zero = 0;   // how many of each, at least one in all
  Index copy = 0;
  Index constant = 0;
};

/// Bank of constant experts (the first ids), copies, then zeros: the order of MoE++ behind its FFN experts.
/// Parameters of constant expert e: "experts.<e>.constant" v [D, 1] and
/// "experts.<e>.constant_gate.weight" Wc [2, D].
template <class RealType = float>
class ZeroComputation {
 public:
  static constexpr const char* kName = "zero_computation";
  using Real = RealType;
  using Options = ZeroComputationOptions;
  static constexpr Coupling coupling = Coupling::row_independent;
  static constexpr bool kFreezesPairs = true;

  struct Tape {
    Index slots = -1;
    Buffer<Real> mix;  // [slots of constant experts, 2] a1, a2
  };
  struct Gradients {
    Buffer<Real> constant;       // [C, D]
    Buffer<Real> gate;           // [C, 2, D]
    impl::Movable<Index> width;  // D
  };

  /// Zero parameters. Throws config_error naming the option out of range, size_error.
  explicit ZeroComputation(const Options& options) : options_(options) {
    constexpr Index kMost = (std::numeric_limits<ExpertId>::max)();
    require_range("width", options.width, 1, PTRDIFF_MAX);
    require_range("zero experts", options.zero, 0, kMost);
    require_range("copy experts", options.copy, 0, kMost);
    require_range("constant experts", options.constant, 0, kMost);
    require_range("zero, copy and constant experts together", experts(), 1, kMost);
    gate_.assign(checked_product("constant experts x width", options.constant, options.width, Index{2}),
                 Real{0});
    constant_.assign(options.constant * options.width, Real{0});
  }

  Index experts() const noexcept { return options_->zero + options_->copy + options_->constant; }
  Index width() const noexcept { return options_->width; }
  Index bytes() const noexcept { return (gate_.size() + constant_.size()) * Index{sizeof(Real)}; }

  /// v standard normal, Wc uniform in +-1 / sqrt(D), by (seed, expert, place) alone.
  void initialise(std::uint64_t seed) noexcept {
    constexpr std::uint64_t kConstantStep = 512,
                            kGateStep = 513;  // matrices of expert/two_layer/parameters.hpp: 256 on
    const KeyedRandom constant(seed, kConstantStep, DrawStream::initialise);
    const KeyedRandom gate(seed, kGateStep, DrawStream::initialise);
    const double bound = 1 / std::sqrt(static_cast<double>(width()));
    for (Index c = 0; c < options_->constant; ++c) {
      const auto lane = static_cast<std::uint32_t>(c);
      for (Index j = 0; j < width(); ++j) {
        vector(c)[j] = static_cast<Real>(constant.normal(static_cast<std::uint64_t>(j), lane));
      }
      for (Index j = 0; j < 2 * width(); ++j) {
        gate_rows(c)[j] =
            static_cast<Real>(bound * (2 * gate.uniform(static_cast<std::uint64_t>(j), lane) - 1));
      }
    }
  }

  void measure(Arena&, Index, Index) const noexcept {}
  void measure_backward(Arena& arena, Index pairs, Index) const { BackwardScratch{arena, pairs}; }

  template <Executor X>
  void forward(const RowBatch<Real>& batch, const RowSink<Real>& sink, Arena&, X& executor) const {
    run(batch, sink, nullptr, executor);
  }

  template <Executor X>
  void forward_train(const RowBatch<Real>& batch, const RowSink<Real>& sink, Tape& tape, Arena&,
                     X& executor) const {
    require_experts(experts(), batch);
    tape.slots = -1;
    Real* const mix = tape.mix.resize(2 * constant_slots(batch));
    tape.slots = batch.slots();
    run(batch, sink, mix, executor);
  }

  /// With dz = weight * dy: dweight = <dy, z>, dx (unless dx.data is null; null for zero experts), and
  /// gradients (unless null) of slots that are not frozen added to. Throws state_error for the tape of
  /// another batch, shape_error for gradients of another bank.
  template <Executor X>
  void backward(const RowBatch<Real>& batch, const Tape& tape, const RowGradients<Real>& rows,
                Gradients* gradients, Arena& arena, X& executor) const {
    require_experts(experts(), batch);
    const Index constants = constant_slots(batch);
    if (tape.slots != batch.slots() || tape.mix.size() != 2 * constants) {
      fail<state_error>("expert tape: expected the tape of a batch of ", batch.slots(), " rows, ", constants,
                        " of constant experts, got one of ", tape.slots, " and ", tape.mix.size() / 2);
    }
    impl::check_gradients_of(*this, gradients);
    const BackwardScratch scratch(arena, constants);
    const bool wants_dx = rows.dx.data != nullptr;
    for_each_slot(batch, executor, [&](Index e, Index s) noexcept {
      const Real* const dy = rows.dy[s];
      const Real weight = rows.weight[s];
      if (is_zero(e)) {
        rows.dweight[s] = 0;
        if (wants_dx) rows.dx.result[s] = nullptr;
        return;
      }
      const Real dy_x = dot(dy, batch.row[s], width());
      Real through = 1;  // d z / d x without the path through a1 and a2
      rows.dweight[s] = dy_x;
      if (is_constant(e)) {
        const Real a1 = tape.mix[2 * s], a2 = tape.mix[2 * s + 1];
        const Real dy_v = dot(dy, vector(e), width());
        through = a1;
        rows.dweight[s] = fma(a1, dy_x, a2 * dy_v);
        // The softmax of two depends on the difference of its logits only.
        scratch.dlogit[s] = weight * (a1 * a2) * (dy_x - dy_v);
      }
      if (!wants_dx) return;
      scale_row(weight * through, dy, rows.dx.row(s), width());
      if (!is_constant(e)) return;
      axpy_row(scratch.dlogit[s], gate_rows(e), rows.dx.row(s), width());
      axpy_row(-scratch.dlogit[s], gate_rows(e) + width(), rows.dx.row(s), width());
    });
    if (gradients == nullptr) return;
    executor.parallel_for(options_->constant, [&](Index c, Index) noexcept {
      Real* const dconstant = gradients->constant.data() + c * width();
      Real* const dgate = gradients->gate.data() + 2 * c * width();
      for (Index s = batch.offsets[c]; s < batch.offsets[c + 1]; ++s) {
        if (rows.freezes(s)) continue;
        axpy_row(rows.weight[s] * tape.mix[2 * s + 1], rows.dy[s], dconstant, width());
        axpy_row(scratch.dlogit[s], batch.row[s], dgate, width());
        axpy_row(-scratch.dlogit[s], batch.row[s], dgate + width(), width());
      }
    });
  }

  Gradients make_gradients() const {
    return {Buffer<Real>(constant_.size()), Buffer<Real>(gate_.size()), width()};
  }

  /// Ids in names from first_id on.
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f, Index first_id = 0) {
    const Index d = width();
    const auto vector_of = [d](Buffer<Real>& of, Index c) {
      return ParameterView<Real>{of.data() + c * d, d, 1};
    };
    const auto gate_of = [d](Buffer<Real>& of, Index c) {
      return ParameterView<Real>{of.data() + 2 * c * d, 2, d, 1, d, 1};
    };
    for (Index c = 0; c < options_->constant; ++c) {
      f(Parameter<Real>{ParameterName("experts.", first_id + c, ".constant").c_str(), vector_of(constant_, c),
                        gradients == nullptr ? ParameterView<Real>{} : vector_of(gradients->constant, c)});
      f(Parameter<Real>{ParameterName("experts.", first_id + c, ".constant_gate.weight").c_str(),
                        gate_of(gate_, c),
                        gradients == nullptr ? ParameterView<Real>{} : gate_of(gradients->gate, c)});
    }
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor&& f) {
    if (gradients != nullptr && gradients->width != width()) {
      fail<shape_error>("gradients of experts.constant: expected ", width(),
                        " columns (ask make_gradients()), got ", gradients->width.get());
    }
    visit_buffer(f, "experts.constant", constant_, gradients, &Gradients::constant);
    visit_buffer(f, "experts.constant_gate", gate_, gradients, &Gradients::gate);
  }

 private:
  struct BackwardScratch {
    Real* dlogit;  // [slots of constant experts] of the first logit; the second's is its negative
    BackwardScratch(Arena& arena, Index slots) : dlogit(arena.take<Real>(slots)) {}
  };

  bool is_constant(Index e) const noexcept { return e < options_->constant; }
  bool is_zero(Index e) const noexcept { return e >= options_->constant + options_->copy; }
  /// Constant experts have the first ids, hence the first slots.
  Index constant_slots(const RowBatch<Real>& batch) const noexcept {
    return batch.offsets[options_->constant];
  }

  const Real* vector(Index c) const noexcept { return constant_.data() + c * width(); }
  Real* vector(Index c) noexcept { return constant_.data() + c * width(); }
  const Real* gate_rows(Index c) const noexcept { return gate_.data() + 2 * c * width(); }
  Real* gate_rows(Index c) noexcept { return gate_.data() + 2 * c * width(); }

  template <Executor X>
  void run(const RowBatch<Real>& batch, const RowSink<Real>& sink, Real* mix, X& executor) const {
    require_experts(experts(), batch);
    for_each_slot(batch, executor, [&](Index e, Index s) noexcept {
      const Real* const x = batch.row[s];
      if (!is_constant(e)) {
        sink.result[s] = is_zero(e) ? nullptr : x;
        return;
      }
      const auto a =
          math::sigmoid_pair(dot(x, gate_rows(e), width()) - dot(x, gate_rows(e) + width(), width()));
      scale_row(a.of_x, x, sink.row(s), width());
      axpy_row(a.of_minus_x, vector(e), sink.row(s), width());
      if (mix == nullptr) return;
      mix[2 * s] = a.of_x;
      mix[2 * s + 1] = a.of_minus_x;
    });
  }

  impl::Movable<Options> options_;
  Buffer<Real> constant_;  // [C, D]
  Buffer<Real> gate_;      // [C, 2, D]
};

MOE_NAMESPACE_END
