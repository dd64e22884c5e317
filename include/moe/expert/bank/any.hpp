// A bank chosen at run time.
#pragma once

#include "moe/core/executor.hpp"
#include "moe/core/one_of.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/expert/concept.hpp"

MOE_NAMESPACE_BEGIN

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

MOE_NAMESPACE_END
