// No choice: every token goes to every expert, with weight 1 or, gated, with one weight per token,
// sigmoid(<x, w>) (Qwen2-MoE's shared expert gate), times a scale. What shared experts are routed by.
#pragma once

#include <limits>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/router/call_options.hpp"
#include "moe/router/concept.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

/// Parameter, when gated: "expert_gate.weight" [1, D], 0 at first. A row whose <x, w> is not finite is
/// spoiled.
template <class RealType>
class EveryExpert {
 public:
  static constexpr const char* kName = "every";
  using Real = RealType;
  struct Tape {};  // the table has the weights
  struct Gradients {
    Buffer<Real> gate;  // [D] or empty
  };

  static constexpr Coupling coupling(bool) noexcept { return Coupling::row_independent; }

  /// `gate_width` D of the rows that the gate reads, 0: no gate. Throws config_error for no experts, or a
  /// scale that is 0 or not finite.
  explicit EveryExpert(Index experts, Index gate_width = 0, double scale = 1)
      : experts_(experts), scale_(static_cast<Real>(scale)) {
    if (!is_finite(scale_) || scale_ == 0) {
      fail<config_error>("weight scale: expected a finite value other than 0, got ", scale);
    }
    require_range("experts", experts, 1, INT32_MAX);
    require_range("width of the gate", gate_width, 0, INT32_MAX);
    gate_.assign(gate_width, Real{0});
  }

  bool gated() const noexcept { return !gate_.empty(); }
  Index experts() const noexcept { return experts_; }
  Index width() const noexcept { return gate_.size(); }
  void measure(Arena& arena, const CallShape& shape, Index) const { take_gates(arena, shape.tokens); }

  /// Throws config_error for a mask or an option of the call.
  template <Executor X>
  void route(const RouterInput<Real>& in, RouteTable<Real>& table, Arena& arena, X& executor) const {
    impl::require_there("router", experts() > 0);
    if (in.logit_mask) fail<config_error>("logit_mask: expected none for every expert, got one");
    if (in.options.experts_per_token != 0 && in.options.experts_per_token != experts()) {
      fail<config_error>("experts per token: expected ", experts(), " (every expert), got ",
                         in.options.experts_per_token);
    }
    impl::refuse_score_options(in.options, "every expert");
    Real* const gate = take_gates(arena, in.tokens());
    if (gated()) {
      executor.parallel_for(in.tokens(), [&](Index t, Index) noexcept {
        if (!in.takes_part(t)) return;
        const Real logit = dot(in.x.row(t), gate_.data(), width());
        gate[t] = is_finite(logit) ? Sigmoid{}.value(logit) : std::numeric_limits<Real>::quiet_NaN();
      });
    }
    for (Index t = 0; t < in.tokens(); ++t) {
      table.begin_token(t);
      if (!in.takes_part(t)) continue;
      const Real weight = gated() ? scale_ * gate[t] : scale_;
      table.spoiled[t] = !is_finite(weight);
      for (Index e = 0; !table.spoiled[t] && e < experts_; ++e) {
        table.push(t, static_cast<ExpertId>(e), weight);
      }
    }
  }

  /// The experts of a token share its weight s g: dg is s times the sum of their dweight, and sigmoid' = g (1
  /// - g). Tokens in ascending order. Throws shape_error for another router's gradients, config_error for
  /// gradients from outside.
  template <Executor X>
  void backward(const RouterInput<Real>& in, const RouteTable<Real>& table, const Tape&,
                const RouteGradients<Real>& out, Gradients* gradients, Arena&, X&) const {
    impl::refuse_outside_gradients(out, "every expert");
    impl::check_gradients_of(*this, gradients);
    for (Index t = 0; gated() && t < table.tokens; ++t) {
      if (table.count(t) == 0) continue;
      Real dgate = 0;
      for (Index p = table.offsets[t]; p < table.offsets[t + 1]; ++p) dgate += out.dweight[p];
      const Real weight = table.weight[table.offsets[t]];
      const Real dlogit = dgate * weight * (1 - weight / scale_);
      if (gradients != nullptr) axpy_row(dlogit, in.x.row(t), gradients->gate.data(), width());
      if (out.dx) axpy_row(dlogit, gate_.data(), out.dx.row(t), width());
    }
  }

  Gradients make_gradients() const { return {Buffer<Real>(gate_.size())}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f) {
    if (!gated()) return;
    const auto view = [this](Real* data) noexcept {
      const Index d = width();
      return data == nullptr ? ParameterView<Real>{} : ParameterView<Real>{data, 1, d, 1, d, 1};
    };
    f(Parameter<Real>{"expert_gate.weight", view(gate_.data()),
                      view(gradients == nullptr ? nullptr : gradients->gate.data())});
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor&& f) {
    visit_buffer(f, "expert_gate.weight", gate_, gradients, &Gradients::gate);
  }

 private:
  Real* take_gates(Arena& arena, Index tokens) const { return arena.take<Real>(gated() ? tokens : 0); }

  impl::Movable<Index> experts_;
  Real scale_;
  Buffer<Real> gate_;  // [D] or empty
};

MOE_NAMESPACE_END
