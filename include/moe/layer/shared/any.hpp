// Shared experts or none, chosen at run time.
#pragma once

#include <optional>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/layer/shared/shared_experts.hpp"

MOE_NAMESPACE_BEGIN

/// SharedExperts<Bank>, or none.
template <class Bank>
class AnyShared {
  using Part = SharedExperts<Bank>;

 public:
  using Real = typename Part::Real;
  using Tape = typename Part::Tape;
  using Gradients = std::optional<typename Part::Gradients>;

  AnyShared() = default;
  AnyShared(Part part) : part_(std::move(part)) {}  // NOLINT(google-explicit-constructor)

  /// Null if there are none.
  Part* get() noexcept { return part_ ? &*part_ : nullptr; }
  const Part* get() const noexcept { return part_ ? &*part_ : nullptr; }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    if (part_) part_->visit_names(role, f);
  }

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
    auto* const trained = own(gradients);
    if (part_) part_->backward(tape, x, dy, dx, trained, arena, executor);
  }
  Gradients make_gradients() const {
    return part_ ? Gradients(part_->make_gradients()) : Gradients(std::nullopt);
  }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    auto* const shown = own(gradients);
    if (part_) part_->visit_parameters(shown, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    auto* const shown = own(gradients);
    if (part_) part_->visit_storage(shown, f);
  }
  template <class Visitor>
  void visit_packed(Visitor&& f) {
    if (part_) part_->visit_packed(f);
  }
  template <class Visitor>
  void visit_state(Visitor& f) {
    if (part_) part_->visit_state(f);
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    if (part_) part_->visit_state(f);
  }

 private:
  /// Throws shape_error for those of shared experts that are not here, or none of those that are.
  typename Part::Gradients* own(Gradients* gradients) const {
    if (gradients == nullptr) return nullptr;
    if (gradients->has_value() != part_.has_value()) {
      fail<shape_error>("gradients of shared experts: expected ", part_ ? "some" : "none",
                        " (ask make_gradients()), got ", part_ ? "none" : "some");
    }
    return part_ ? &**gradients : nullptr;
  }

  std::optional<Part> part_;
};

MOE_NAMESPACE_END
