// The parts of released models' layers, chosen at run time: experts with or without a gate, with experts that
// compute nothing behind them; shared experts or none; frames. Routers:
// moe/router/runtime/token_choice_options.hpp.
#pragma once

#include <optional>
#include <utility>

#include "moe/core/executor.hpp"
#include "moe/core/one_of.hpp"
#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/list.hpp"
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/layer/frame/list.hpp"
#include "moe/layer/shared/shared_experts.hpp"

MOE_NAMESPACE_BEGIN
namespace models {

/// One of several banks, as a bank.
template <class First, class... Rest>
class OneBank : public OneOf<First, Rest...> {
  using Base = OneOf<First, Rest...>;

 public:
  using Base::Base;
  using Real = typename First::Real;
  using typename Base::Gradients;
  using typename Base::Tape;
  static constexpr Coupling coupling = Coupling::row_independent;

  Index experts() const noexcept {
    return this->visit([](const auto& bank) { return Index{bank.experts()}; });
  }
  Index width() const noexcept {
    return this->visit([](const auto& bank) { return Index{bank.width()}; });
  }
  void measure(Arena& arena, Index pairs, Index concurrency) const {
    this->visit([&](const auto& bank) { bank.measure(arena, pairs, concurrency); });
  }
  void measure_backward(Arena& arena, Index pairs, Index concurrency) const {
    this->visit([&](const auto& bank) { bank.measure_backward(arena, pairs, concurrency); });
  }
  template <Executor X>
  void forward(const RowBatch<Real>& batch, const RowSink<Real>& sink, Arena& arena, X& executor) const {
    this->visit([&](const auto& bank) { bank.forward(batch, sink, arena, executor); });
  }
  template <Executor X>
  void forward_train(const RowBatch<Real>& batch, const RowSink<Real>& sink, Tape& tape, Arena& arena,
                     X& executor) const {
    this->visit([&](const auto& bank) {
      bank.forward_train(batch, sink, this->tape_of(bank, tape), arena, executor);
    });
  }
  template <Executor X>
  void backward(const RowBatch<Real>& batch, const Tape& tape, const RowGradients<Real>& rows,
                Gradients* gradients, Arena& arena, X& executor) const {
    this->visit([&](const auto& bank) {
      bank.backward(batch, this->tape_of(bank, tape), rows, this->own(bank, gradients), arena, executor);
    });
  }
};

/// Feed-forward experts with a gate or without.
template <class Storage>
using FeedForward = FromList<OneBank, FeedForwardBanks<Storage>>;

/// The same, alone or with zero, copy and constant experts behind them.
template <class Storage>
using AnyBank = OneBank<FeedForward<Storage>, Composite<FeedForward<Storage>, ZeroComputation<float>>>;

/// Shared experts, or none.
template <class Storage>
class AnyShared {
  using Part = SharedExperts<FeedForward<Storage>>;

 public:
  using Real = typename Part::Real;
  using Tape = typename Part::Tape;
  using Gradients = std::optional<typename Part::Gradients>;

  AnyShared() = default;
  AnyShared(Part part) : part_(std::move(part)) {}  // NOLINT(google-explicit-constructor)

  /// Null if there are none.
  Part* get() noexcept { return part_ ? &*part_ : nullptr; }
  const Part* get() const noexcept { return part_ ? &*part_ : nullptr; }

  Index width() const noexcept { return part_ ? part_->width() : 0; }
  void measure(Arena& arena, Index tokens, Index concurrency) const {
    if (part_) part_->measure(arena, tokens, concurrency);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    if (part_) part_->measure_backward(arena, tokens, concurrency);
  }
  template <Executor X>
  void forward(const ConstMatrixView<Real>& x, const bool* active, const MatrixView<Real>& y, Tape* tape,
               Arena& arena, X& executor) const {
    if (part_) part_->forward(x, active, y, tape, arena, executor);
  }
  template <Executor X>
  void backward(const Tape& tape, const ConstMatrixView<Real>& x, const ConstMatrixView<Real>& dy,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    if (part_) part_->backward(tape, x, dy, dx, own(gradients), arena, executor);
  }
  Gradients make_gradients() const {
    return part_ ? Gradients(part_->make_gradients()) : Gradients(std::nullopt);
  }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    if (part_) part_->visit_parameters(own(gradients), f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    if (part_) part_->visit_storage(own(gradients), f);
  }
  template <class Visitor>
  void visit_packed(Visitor&& f) {
    if (part_) part_->visit_packed(f);
  }

 private:
  static typename Part::Gradients* own(Gradients* gradients) noexcept {
    return gradients == nullptr ? nullptr : &**gradients;
  }

  std::optional<Part> part_;
};

/// Identity, scaled rows, one bias of the sum, or latent projections.
class AnyFrame : public FromList<OneOf, Frames<float>> {
  using Base = FromList<OneOf, Frames<float>>;

 public:
  using Base::Base;
  using Real = float;

  // Not inlined: g++ 12 otherwise warns of the alternatives that the variant does not hold.
  MOE_NOINLINE Index inner_width(Index width) const {
    return visit([&](const auto& frame) { return frame.inner_width(width); });
  }
  MOE_NOINLINE Index outer_width(Index width) const {
    return visit([&](const auto& frame) { return frame.outer_width(width); });
  }
  void measure(Arena& arena, Index tokens, Index concurrency) const {
    visit([&](const auto& frame) { frame.measure(arena, tokens, concurrency); });
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    visit([&](const auto& frame) { frame.measure_backward(arena, tokens, concurrency); });
  }
  template <Executor X>
  ConstMatrixView<Real> before(const ConstMatrixView<Real>& x, Tape* tape, Arena& arena, X& executor) const {
    return visit([&](const auto& frame) { return frame.before(x, tape_of(frame, tape), arena, executor); });
  }
  MatrixView<Real> inner_y(const MatrixView<Real>& y, Arena& arena) const {
    return visit([&](const auto& frame) { return frame.inner_y(y, arena); });
  }
  template <Executor X>
  void after(const MatrixView<Real>& inner, const MatrixView<Real>& y, const bool* active, Tape* tape,
             Arena& arena, X& executor) const {
    visit([&](const auto& frame) { frame.after(inner, y, active, tape_of(frame, tape), arena, executor); });
  }
  ConstMatrixView<Real> inner_x(const Tape& tape, const ConstMatrixView<Real>& x) const {
    return visit([&](const auto& frame) { return frame.inner_x(tape_of(frame, tape), x); });
  }
  template <Executor X>
  ConstMatrixView<Real> after_backward(const Tape& tape, const ConstMatrixView<Real>& dy,
                                       Gradients* gradients, Arena& arena, X& executor) const {
    return visit([&](const auto& frame) {
      return frame.after_backward(tape_of(frame, tape), dy, own(frame, gradients), arena, executor);
    });
  }
  MatrixView<Real> inner_dx(const MatrixView<Real>& dx, Index tokens, Arena& arena) const {
    return visit([&](const auto& frame) { return frame.inner_dx(dx, tokens, arena); });
  }
  template <Executor X>
  void before_backward(const Tape& tape, const ConstMatrixView<Real>& x, const MatrixView<Real>& inner,
                       const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    visit([&](const auto& frame) {
      frame.before_backward(tape_of(frame, tape), x, inner, dx, own(frame, gradients), arena, executor);
    });
  }
};

}  // namespace models
MOE_NAMESPACE_END
