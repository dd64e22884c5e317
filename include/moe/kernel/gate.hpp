// Gates: how the two halves of a gated unit meet, h = value(g, u), and the way back; for scalars and batches.
#pragma once

#include <concepts>

#include "moe/kernel/activation_policy.hpp"

MOE_NAMESPACE_BEGIN

/// Partial derivatives of a gate's value.
template <class V>
struct GatePartials {
  V of_gate, of_up;
};

template <class G>
concept Gate = std::copyable<G> && requires(const G& gate, float x) {
  { gate.value(x, x) } -> std::same_as<float>;
  { gate.partials(x, x) } -> std::same_as<GatePartials<float>>;
};

/// act(g) * u: SwiGLU with Silu, GeGLU with a Gelu, ReGLU with Relu (arXiv:2002.05202).
template <Activation Act>
struct ProductGate {
  Act act{};

  template <class V>
  V value(const V& g, const V& u) const noexcept {
    return act.value(g) * u;
  }
  template <class V>
  GatePartials<V> partials(const V& g, const V& u) const noexcept {
    return {act.derivative(g) * u, act.value(g)};
  }
};

/// act(min(g, limit)) * (clamp(u, -limit, limit) + offset): gpt-oss has QuickGelu, limit 7, offset 1;
/// DeepSeek-V4 Silu, limit 10, offset 0. Beyond the limit a partial derivative is 0, at the limit it is not.
template <Activation Act>
struct ClampedGate {
  double limit;
  double offset = 0;
  Act act{};

  template <class V>
  V value(const V& g, const V& u) const noexcept {
    return act.value(math::at_most(g, limit)) * up(u);
  }
  template <class V>
  GatePartials<V> partials(const V& g, const V& u) const noexcept {
    const V gate = math::at_most(g, limit);
    const V of_gate = act.derivative(gate) * up(u), of_up = act.value(gate);
    return {math::where_at_most(g, limit, of_gate), math::where_at_most(V(abs_of(u)), limit, of_up)};
  }

 private:
  template <class V>
  V up(const V& u) const noexcept {
    return math::clamp(u, -limit, limit) + math::constant<V>(offset);
  }
  template <class V>
  static V abs_of(const V& x) noexcept {
    using math::abs;
    return abs(x);
  }
};

MOE_NAMESPACE_END
