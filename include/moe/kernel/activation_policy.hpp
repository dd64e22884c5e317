// Activation functions as small value types, the same text for scalars and batches; the choice at run time.
//
// value(x) and derivative(x) take V = float, double or a batch. For |x| <= 1e30 they are finite wherever the
// exact result is. value: NaN gives NaN, +inf the limit, -inf the limit except where the text-book formula is
// -inf * 0 (silu, quick_gelu, gelu: NaN, as in PyTorch). derivative at NaN and +-inf: unspecified.
//
// Errors, from kernel/math.hpp, stand beside each: relative, in u = 2^-24 (float) or 2^-53 (double); those of
// derivatives relative to the sum of the magnitudes of their terms. Added to each: four times the smallest
// normal number, times what multiplies the exponential (1 + |x|; 1 + |x z'| for the derivative of an
// x / (1 + e^-z)), because batches flush it to 0.
#pragma once

#include <concepts>
#include <cstdint>

#include "moe/kernel/arch.hpp"
#include "moe/kernel/math.hpp"

MOE_NAMESPACE_BEGIN

template <class A>
concept Activation = std::copyable<A> && requires(const A& a, float x) {
  { a.value(x) } -> std::same_as<float>;
  { a.derivative(x) } -> std::same_as<float>;
  { a.name() } -> std::same_as<const char*>;
};

/// x.
struct Identity {
  static constexpr const char* name() noexcept { return "identity"; }
  template <class V>
  static V value(const V& x) noexcept {
    return x;
  }
  template <class V>
  static V derivative(const V&) noexcept {
    return math::constant<V>(1);
  }
};

/// max(x, 0); derivative 0 at 0. Exact.
struct Relu {
  static constexpr const char* name() noexcept { return "relu"; }
  template <class V>
  static V value(const V& x) noexcept {
    return math::positive_part(x);
  }
  template <class V>
  static V derivative(const V& x) noexcept {
    return math::where_positive(x, math::constant<V>(1));
  }
};

/// max(x, 0)^2 (Primer, arXiv:2109.08668). 1 u.
struct ReluSquared {
  static constexpr const char* name() noexcept { return "relu2"; }
  template <class V>
  static V value(const V& x) noexcept {
    const V r = math::positive_part(x);
    return r * r;
  }
  template <class V>
  static V derivative(const V& x) noexcept {
    const V r = math::positive_part(x);
    return r + r;
  }
};

/// 1 / (1 + e^-x). 5 u, derivative 11 u.
struct Sigmoid {
  static constexpr const char* name() noexcept { return "sigmoid"; }
  template <class V>
  static V value(const V& x) noexcept {
    return math::sigmoid_pair(x).of_x;
  }
  template <class V>
  static V derivative(const V& x) noexcept {
    const auto s = math::sigmoid_pair(x);
    return s.of_x * s.of_minus_x;
  }
};

/// tanh(x). 5 u; derivative 4 / ((1 + e^2x) (1 + e^-2x)): 11 u.
struct Tanh {
  static constexpr const char* name() noexcept { return "tanh"; }
  template <class V>
  static V value(const V& x) noexcept {
    return math::tanh(x);
  }
  template <class V>
  static V derivative(const V& x) noexcept {
    const auto s = math::sigmoid_pair(V(x + x));
    return math::constant<V>(4) * (s.of_x * s.of_minus_x);
  }
};

/// ln(1 + e^x). 7 u, derivative 5 u.
struct Softplus {
  static constexpr const char* name() noexcept { return "softplus"; }
  template <class V>
  static V value(const V& x) noexcept {
    return math::softplus(x);
  }
  template <class V>
  static V derivative(const V& x) noexcept {
    return math::sigmoid_pair(x).of_x;
  }
};

/// x / (1 + e^-x). 6 u, derivative 12 u.
struct Silu {
  static constexpr const char* name() noexcept { return "silu"; }
  template <class V>
  static V value(const V& x) noexcept {
    return x * math::sigmoid_pair(x).of_x;
  }
  template <class V>
  static V derivative(const V& x) noexcept {
    const auto s = math::sigmoid_pair(x);
    return s.of_x * moe::fma(x, s.of_minus_x, math::constant<V>(1));
  }
};

/// x / (1 + e^(-1.702 x)), the gate of gpt-oss. (7 + 2 * 1.702 |x|) u, derivative twice that.
struct QuickGelu {
  static constexpr const char* name() noexcept { return "quick_gelu"; }
  template <class V>
  static V value(const V& x) noexcept {
    return x * math::sigmoid_pair(V(math::constant<V>(1.702) * x)).of_x;
  }
  template <class V>
  static V derivative(const V& x) noexcept {
    const V z = math::constant<V>(1.702) * x;
    const auto s = math::sigmoid_pair(z);
    return s.of_x * moe::fma(z, s.of_minus_x, math::constant<V>(1));
  }
};

/// x Phi(x), Phi the normal distribution function (arXiv:1606.08415). (14 + 2 x^2) u, derivative one more.
struct GeluErf {
  static constexpr const char* name() noexcept { return "gelu_erf"; }
  template <class V>
  static V value(const V& x) noexcept {
    return x * math::normal_cdf(x);
  }
  template <class V>
  static V derivative(const V& x) noexcept {
    return moe::fma(x, math::normal_density(x), math::normal_cdf(x));
  }
};

/// x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2 (arXiv:1606.08415), as x / (1 + e^-z) with
/// z = x (1.5957691 + 0.071354816 x^2): no cancellation where x < 0. (7 + 5 |z|) u, derivative twice that.
struct GeluTanh {
  static constexpr const char* name() noexcept { return "gelu_tanh"; }
  template <class V>
  static V value(const V& x) noexcept {
    const V near = math::clamp(x, -kFlat, kFlat);
    return x * math::sigmoid_pair(V(near * slope(near, kCubic))).of_x;
  }
  template <class V>
  static V derivative(const V& x) noexcept {
    const V near = math::clamp(x, -kFlat, kFlat);
    const auto s = math::sigmoid_pair(V(near * slope(near, kCubic)));
    return s.of_x * moe::fma(V(near * s.of_minus_x), slope(near, 3 * kCubic), math::constant<V>(1));
  }

 private:
  static constexpr double kLinear = 1.5957691216057308;  // 2 sqrt(2/pi)
  static constexpr double kCubic = 0.044715 * kLinear;
  static constexpr double kFlat = 32;  // e^-|z| is 0 in double from 20 on; keeps x^2 finite

  template <class V>
  static V slope(const V& x, double cubic) noexcept {
    return moe::fma(V(x * x), math::constant<V>(cubic), math::constant<V>(kLinear));
  }
};

enum class ActivationKind : std::uint8_t {
  identity,
  relu,
  relu_squared,
  sigmoid,
  tanh,
  softplus,
  silu,
  quick_gelu,
  gelu_erf,
  gelu_tanh,
};

/// An activation chosen at run time. Row kernels look at `kind` once a row and then run the code of that
/// type, so the bits are the same.
struct AnyActivation {
  ActivationKind kind = ActivationKind::silu;

  /// f(the activation's own type).
  template <class F>
  decltype(auto) visit(const F& f) const noexcept {
    switch (kind) {
      case ActivationKind::identity:
        return f(Identity{});
      case ActivationKind::relu:
        return f(Relu{});
      case ActivationKind::relu_squared:
        return f(ReluSquared{});
      case ActivationKind::sigmoid:
        return f(Sigmoid{});
      case ActivationKind::tanh:
        return f(Tanh{});
      case ActivationKind::softplus:
        return f(Softplus{});
      case ActivationKind::silu:
        break;
      case ActivationKind::quick_gelu:
        return f(QuickGelu{});
      case ActivationKind::gelu_erf:
        return f(GeluErf{});
      case ActivationKind::gelu_tanh:
        return f(GeluTanh{});
    }
    return f(Silu{});
  }

  const char* name() const noexcept {
    return visit([](const auto& act) noexcept { return act.name(); });
  }
  template <class V>
  V value(const V& x) const noexcept {
    return visit([&](const auto& act) noexcept { return act.value(x); });
  }
  template <class V>
  V derivative(const V& x) const noexcept {
    return visit([&](const auto& act) noexcept { return act.derivative(x); });
  }
};

MOE_NAMESPACE_END
