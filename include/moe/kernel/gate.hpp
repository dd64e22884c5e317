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

/// min(act(g), limit) * clamp(u, -limit, limit): Step-3.5 bounds what comes out of Silu, not what goes in.
/// Beyond the limit a partial derivative is 0, at the limit it is not.
template <Activation Act>
struct BoundedGate {
  double limit;
  Act act{};

  template <class V>
  V value(const V& g, const V& u) const noexcept {
    return math::at_most(V(act.value(g)), limit) * math::clamp(u, -limit, limit);
  }
  template <class V>
  GatePartials<V> partials(const V& g, const V& u) const noexcept {
    using math::abs;
    const V a = act.value(g);
    const V of_gate = act.derivative(g) * math::clamp(u, -limit, limit), of_up = math::at_most(a, limit);
    return {math::where_at_most(a, limit, of_gate), math::where_at_most(V(abs(u)), limit, of_up)};
  }
};

/// beta tanh(g / beta) sigmoid(g) * limit tanh(u / limit), the SiTU of Kimi K3 (beta 4, limit 25): both
/// halves saturate smoothly.
struct SituGate {
  double beta;
  double limit;

  template <class V>
  V value(const V& g, const V& u) const noexcept {
    return bounded(g, beta) * (math::sigmoid_pair(g).of_x * bounded(u, limit));
  }
  template <class V>
  GatePartials<V> partials(const V& g, const V& u) const noexcept {
    const auto s = math::sigmoid_pair(g);
    const V soft = bounded(g, beta), up = bounded(u, limit);
    // (soft s)' = soft' s + soft s (1 - s).
    const V of_gate = s.of_x * moe::fma(soft, s.of_minus_x, slope(g, beta));
    return {of_gate * up, V(soft * s.of_x) * slope(u, limit)};
  }

 private:
  /// c tanh(x / c) and its derivative.
  template <class V>
  static V bounded(const V& x, double c) noexcept {
    return math::constant<V>(c) * Tanh::value(V(x * math::constant<V>(1 / c)));
  }
  template <class V>
  static V slope(const V& x, double c) noexcept {
    return Tanh::derivative(V(x * math::constant<V>(1 / c)));
  }
};

/// A gate chosen at run time; row kernels look at `kind` once a row and run the code of that gate.
struct AnyGate {
  enum class Kind : std::uint8_t { product, clamped, situ, bounded };
  Kind kind = Kind::product;
  AnyActivation act{};  // all but situ
  double limit = 0;     // all but product
  double offset = 0;    // clamped
  double beta = 0;      // situ

  /// f(the gate's own type, its activation still open).
  template <class F>
  decltype(auto) visit(const F& f) const noexcept {
    if (kind == Kind::clamped) return f(ClampedGate<AnyActivation>{limit, offset, act});
    if (kind == Kind::situ) return f(SituGate{beta, limit});
    if (kind == Kind::bounded) return f(BoundedGate<AnyActivation>{limit, act});
    return f(ProductGate<AnyActivation>{act});
  }
  template <class V>
  V value(const V& g, const V& u) const noexcept {
    return visit([&](const auto& gate) noexcept { return gate.value(g, u); });
  }
  template <class V>
  GatePartials<V> partials(const V& g, const V& u) const noexcept {
    return visit([&](const auto& gate) noexcept { return gate.partials(g, u); });
  }
};

MOE_NAMESPACE_END
