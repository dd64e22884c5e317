// A bank chosen at run time.
#pragma once

#include "moe/core/executor.hpp"
#include "moe/core/one_of.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/expert/concept.hpp"
#include "moe/expert/parameter_names.hpp"

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
  static constexpr bool kFreezesPairs = impl::kFreezesPairs<First> && (impl::kFreezesPairs<Rest> && ...);

  Index experts() const noexcept {
    return this->visit([](const auto& bank) { return Index{bank.experts()}; });
  }
  Index width() const noexcept {
    return this->visit([](const auto& bank) { return Index{bank.width()}; });
  }
  Index output_width() const noexcept {
    return this->visit([](const auto& bank) { return impl::output_width_of(bank); });
  }
  void measure(Arena& arena, Index pairs, Index concurrency) const {
    this->visit([&](const auto& bank) { impl::measure_of(bank, arena, pairs, concurrency); });
  }
  void measure_backward(Arena& arena, Index pairs, Index concurrency) const {
    this->visit([&](const auto& bank) { impl::measure_backward_of(bank, arena, pairs, concurrency); });
  }
  template <Executor X>
  void forward(const RowBatch<Real>& batch, const RowSink<Real>& sink, Arena& arena, X& executor) const {
    this->visit([&](const auto& bank) { bank.forward(batch, sink, arena, executor); });
  }
  template <Executor X>
  void forward_train(const RowBatch<Real>& batch, const RowSink<Real>& sink, Tape& tape, Arena& arena,
                     X& executor) const {
    this->visit([&](const auto& bank) {
      impl::forward_train_of(bank, batch, sink, this->tape_of(bank, tape), arena, executor);
    });
  }
  template <Executor X>
  void backward(const RowBatch<Real>& batch, const Tape& tape, const RowGradients<Real>& rows,
                Gradients* gradients, Arena& arena, X& executor) const {
    this->visit([&](const auto& bank) {
      bank.backward(batch, this->tape_of(bank, tape), rows, this->own(bank, gradients), arena, executor);
    });
  }

  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    Base::visit_parameters(gradients, f);
  }
  /// Ids in names from first_id on.
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f, Index first_id) {
    this->visit(
        [&](auto& bank) { impl::visit_parameters_from(bank, this->own(bank, gradients), f, first_id); });
  }
};

MOE_NAMESPACE_END
