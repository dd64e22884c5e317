// Experts that every token visits, outside the routing: y[t] += s(t) * sum over shared experts of f(x[t]),
// after the routed sum. s is 1, or sigmoid(<x[t], w>) (Qwen2-MoE's shared expert gate), times a scale.
#pragma once

#include <limits>
#include <utility>

#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/expert/concept.hpp"
#include "moe/kernel/row.hpp"
#include "moe/layer/sum/routed_sum.hpp"
#include "moe/router/kind/every.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

/// The experts of `B`, all of them for every token, times `scale`; with `gated`, also times sigmoid(<x, w>),
/// w = 0 at first. Parameters: "shared_experts." + the bank's names, "shared_expert_gate.weight" [1, D].
template <ExpertBank B>
class SharedExperts {
  using Sum = RoutedSum<EveryExpert<typename B::Real>, B>;

 public:
  using Real = typename B::Real;
  using Tape = typename Sum::Tape;
  using Gradients = typename Sum::Gradients;

  explicit SharedExperts(B bank, bool gated = false, double scale = 1)
      : SharedExperts(EveryExpert<Real>(bank.experts(), gated ? Index{bank.width()} : Index{0}, scale),
                      std::move(bank)) {}

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    impl::visit_names_of(role, sum_.experts(), f);
  }

  Index width() const noexcept { return sum_.width(); }
  bool gated() const noexcept { return sum_.router().gated(); }
  B& bank() noexcept { return sum_.experts(); }
  const B& bank() const noexcept { return sum_.experts(); }
  /// Behind the same gate.
  template <ExpertBank Other>
  SharedExperts<Other> with_bank(Other bank) const {
    return SharedExperts<Other>(sum_.router(), std::move(bank));
  }

  void measure(Arena& arena, Index tokens, Index concurrency) const {
    sum_.measure(arena, {tokens, 1}, concurrency);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    if constexpr (Sum::kTrainable) sum_.measure_backward(arena, {tokens, 1}, concurrency);
  }

  /// y[t] += ... for every t with active[t]; other rows stay. Where a gate's <x, w> is not finite, the
  /// row becomes NaN.
  template <Executor X>
  void forward(const ConstMatrixView<Real>& x, const bool* active, const MatrixView<Real>& y, Tape* tape,
               Arena& arena, X& executor) const {
    const RouterInput<Real> in = input(x, active);
    const SumRows<Real> rows{x, y, SumFrom::y};
    Routed<Real> routed;
    if constexpr (Sum::kTrainable) {
      routed = tape == nullptr ? sum_.forward(in, rows, arena, executor)
                               : sum_.forward_train(in, rows, *tape, arena, executor);
    } else {
      routed = sum_.forward(in, rows, arena, executor);
    }
    for (Index t = 0; t < y.rows; ++t) {
      if (routed.table.spoiled[t]) fill_row(std::numeric_limits<Real>::quiet_NaN(), y.row(t), y.cols);
    }
  }

  /// dx[t] += ..., if dx is there.
  template <Executor X>
  void backward(const Tape& tape, const ConstMatrixView<Real>& x, const ConstMatrixView<Real>& dy,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    if constexpr (Sum::kTrainable) {
      const Real* const dweight =
          sum_.backward_experts(tape, x, SumGradients<Real>{dy, dx, SumFrom::y},
                                gradients == nullptr ? nullptr : &gradients->experts, arena, executor);
      sum_.backward_router(tape, input(x, nullptr), RouteGradients<Real>{dweight, 0, dx},
                           gradients == nullptr ? nullptr : &gradients->router, arena, executor);
    }
  }

  Gradients make_gradients() const {
    if constexpr (Sum::kTrainable) {
      return sum_.make_gradients();
    } else {
      return {};
    }
  }

  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    auto renamed = [&](Parameter<Real> p) {
      const ParameterName name("shared_", p.name);
      p.name = name.c_str();
      f(p);
    };
    impl::visit_parameters_of(bank(), gradients == nullptr ? nullptr : &gradients->experts, renamed);
    sum_.router().visit_parameters(gradients == nullptr ? nullptr : &gradients->router, renamed);
  }
  template <class Visitor>
  void visit_packed(Visitor& f) {
    if constexpr (requires { bank().visit_packed(f); }) {
      bank().visit_packed([&](const char* name, std::byte* data, Index n) {
        f(ParameterName("shared_", name).c_str(), data, n);
      });
    }
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    auto renamed = [&](const char* name, Real* values, Real* g, Index n) {
      f(ParameterName("shared_", name).c_str(), values, g, n);
    };
    impl::visit_storage_of(bank(), gradients == nullptr ? nullptr : &gradients->experts, renamed);
    impl::visit_storage_of(sum_.router(), gradients == nullptr ? nullptr : &gradients->router, renamed);
  }
  template <class Visitor>
  void visit_state(Visitor& f) {
    show_state(bank(), f);
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    show_state(bank(), f);
  }

 private:
  template <ExpertBank>
  friend class SharedExperts;

  /// `bank` by reference: the gate may be made of it in the same call.
  SharedExperts(EveryExpert<Real> gate, B&& bank) : sum_(std::move(gate), std::move(bank)) {}

  template <class Bank, class Visitor>
  static void show_state(Bank& bank, Visitor& f) {
    auto renamed = [&](const char* name, auto* values, Index n) {
      f(ParameterName("shared_", name).c_str(), values, n);
    };
    impl::visit_state_of(bank, renamed);
  }
  static RouterInput<Real> input(const ConstMatrixView<Real>& x, const bool* active) noexcept {
    RouterInput<Real> in;
    in.x = x;
    in.valid = {active, static_cast<std::size_t>(x.rows)};
    return in;
  }

  Sum sum_;
};

MOE_NAMESPACE_END
