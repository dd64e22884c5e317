#include "moe/kernel/activation_policy.hpp"

#include <cmath>
#include <limits>
#include <set>
#include <string>

#include "kernel/guarded_row.hpp"
#include "support/catch.hpp"
#include "support/close.hpp"

namespace {

using moe::ActivationKind;
using moe::AnyActivation;
using moe::Index;

using Wide = long double;

Wide sigmoid(Wide x) {
  return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x));
}
Wide cdf(Wide x) {
  return 0.5L * std::erfc(-x / std::sqrt(2.0L));
}
Wide density(Wide x) {
  return std::exp(-x * x / 2) / std::sqrt(2 * 3.14159265358979323846264L);
}
Wide tanh_argument(Wide x) {  // twice that of tanh
  return 2 * std::sqrt(2 / 3.14159265358979323846264L) * (x + 0.044715L * x * x * x);
}

struct Exact {
  Wide value, derivative;
  Wide value_units, derivative_units;  // of u
  Wide derivative_size;                // sum of the magnitudes of its terms
  Wide derivative_gain = 1;            // what it multiplies a function that may be flushed to 0 by
};

/// Text-book formulas, in long double, with the bounds that activation_policy.hpp states.
Exact exact(ActivationKind kind, Wide x) {
  const Wide r = x > 0 ? x : 0, s = sigmoid(x), z = 1.702L * x, t = tanh_argument(x);
  Exact e{};
  switch (kind) {
    case ActivationKind::identity:
      return {x, 1, 0, 0, 1};
    case ActivationKind::relu:
      return {r, x > 0 ? 1.0L : 0.0L, 0, 0, 1};
    case ActivationKind::relu_squared:
      return {r * r, 2 * r, 1, 0, 1};
    case ActivationKind::sigmoid:
      return {s, s * sigmoid(-x), 5, 11, s * sigmoid(-x)};
    case ActivationKind::tanh:
      e = {std::tanh(x), 4 * sigmoid(2 * x) * sigmoid(-2 * x), 5, 11, 0};
      e.derivative_size = e.derivative;
      return e;
    case ActivationKind::softplus:
      return {r + std::log1p(std::exp(-std::fabs(x))), s, 7, 5, s};
    case ActivationKind::silu:
      return {x * s, s + x * s * sigmoid(-x), 6, 12, s + std::fabs(x) * s * sigmoid(-x), 1 + std::fabs(x)};
    case ActivationKind::quick_gelu: {
      const Wide q = sigmoid(z), product = z * q * sigmoid(-z), units = 7 + 2 * std::fabs(z);
      return {x * q, q + product, units, 2 * units, q + std::fabs(product), 1 + std::fabs(z)};
    }
    case ActivationKind::gelu_erf: {
      const Wide units = 14 + 2 * x * x;
      return {x * cdf(x),      cdf(x) + x * density(x), units, units + 1, cdf(x) + std::fabs(x) * density(x),
              1 + std::fabs(x)};
    }
    case ActivationKind::gelu_tanh:
      break;
  }
  const Wide q = sigmoid(t), units = 7 + 5 * std::fabs(t);
  const Wide slope = 2 * std::sqrt(2 / 3.14159265358979323846264L) * (1 + 3 * 0.044715L * x * x);
  const Wide product = x * q * sigmoid(-t) * slope;
  return {x * q, q + product, units, 2 * units, q + std::fabs(product), 1 + std::fabs(x) * slope};
}

constexpr ActivationKind kKinds[] = {
    ActivationKind::identity,  ActivationKind::relu,       ActivationKind::relu_squared,
    ActivationKind::sigmoid,   ActivationKind::tanh,       ActivationKind::softplus,
    ActivationKind::silu,      ActivationKind::quick_gelu, ActivationKind::gelu_erf,
    ActivationKind::gelu_tanh,
};

/// Points where value and derivative of every kind are representable: a sweep, powers of two, subnormals,
/// zeros.
template <class T>
std::vector<T> points() {
  std::vector<T> x = {T(0), T(-0.0), std::numeric_limits<T>::denorm_min(),
                      -std::numeric_limits<T>::denorm_min()};
  for (int i = -20000; i <= 20000; ++i) x.push_back(static_cast<T>(i * 1.03e-3));
  for (int exponent = -150; exponent <= 60; ++exponent) {
    x.push_back(static_cast<T>(std::ldexp(1.37, exponent)));
    x.push_back(static_cast<T>(std::ldexp(-1.37, exponent)));
  }
  return x;
}

/// `gain` multiplies factors that batches flush to 0 below the smallest normal number.
template <class T>
bool is_outside(T got, Wide want, Wide units, Wide size, Wide gain) {
  return !test::within(got, want, units * test::kRoundoff<T> * size + 4 * test::kTiny<T> * gain);
}

template <class T, class Arch>
void check_accuracy() {
  for (const ActivationKind kind : kKinds) {
    const AnyActivation act{kind};
    INFO(act.name() << (sizeof(T) == 4 ? " in float" : " in double"));
    T bad_value = 0, bad_derivative = 0;
    int failures = 0;
    const auto judge = [&](T x, T value, T derivative) {
      const Exact e = exact(kind, x);
      if (is_outside(value, e.value, e.value_units, std::fabs(e.value), 1 + std::fabs(Wide{x}))) {
        bad_value = x;
        ++failures;
      }
      if (is_outside(derivative, e.derivative, e.derivative_units, e.derivative_size, e.derivative_gain)) {
        bad_derivative = x;
        ++failures;
      }
    };
    const std::vector<T> x = points<T>();
    if constexpr (moe::SimdArch<Arch, T>) {
      using B = moe::Batch<T, Arch>;
      constexpr std::size_t kWidth = B::size;
      for (std::size_t j = 0; j + kWidth <= x.size(); j += kWidth) {
        T value[kWidth], derivative[kWidth];
        B(act.value(B::load_unaligned(x.data() + j))).store_unaligned(value);
        B(act.derivative(B::load_unaligned(x.data() + j))).store_unaligned(derivative);
        for (std::size_t i = 0; i < kWidth; ++i) judge(x[j + i], value[i], derivative[i]);
      }
    } else {
      for (const T v : x) judge(v, act.value(v), act.derivative(v));
    }
    INFO("value at " << bad_value << ", derivative at " << bad_derivative);
    CHECK(failures == 0);
  }
}

TEST_CASE("activations and their derivatives stay within their bounds", "[kernel][smoke]") {
  check_accuracy<float, moe::native_arch>();
  check_accuracy<float, moe::reference_arch>();
}

TEST_CASE("activations and their derivatives stay within their bounds in double", "[kernel]") {
  check_accuracy<double, moe::native_arch>();
  check_accuracy<double, moe::reference_arch>();
}

TEST_CASE("derivatives are those of the values", "[kernel]") {
  // The exact formulas above against central differences of themselves: error h^2 |f'''| / 6 < 1e-9, f''' <
  // 60 here.
  constexpr Wide kStep = 1e-5L;
  for (const ActivationKind kind : kKinds) {
    for (int i = -60; i <= 60; ++i) {
      const Wide x = 0.0501L * i + 0.01L;
      const Wide slope = (exact(kind, x + kStep).value - exact(kind, x - kStep).value) / (2 * kStep);
      INFO(AnyActivation{kind}.name() << " at " << static_cast<double>(x));
      CHECK(std::fabs(slope - exact(kind, x).derivative) < 1e-9L);
    }
  }
}

template <class T, class Arch>
T value_at(const AnyActivation& act, T x) {
  if constexpr (moe::SimdArch<Arch, T>) {
    using B = moe::Batch<T, Arch>;
    T y[B::size];
    B(act.value(B(x))).store_unaligned(y);
    return y[B::size - 1];
  } else {
    return act.value(x);
  }
}
template <class T, class Arch>
T derivative_at(const AnyActivation& act, T x) {
  if constexpr (moe::SimdArch<Arch, T>) {
    using B = moe::Batch<T, Arch>;
    T y[B::size];
    B(act.derivative(B(x))).store_unaligned(y);
    return y[B::size - 1];
  } else {
    return act.derivative(x);
  }
}

template <class T, class Arch>
void check_limits() {
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN(), huge = T(1e30);
  for (const ActivationKind kind : kKinds) {
    const AnyActivation act{kind};
    INFO(act.name());
    CHECK(moe::is_nan(value_at<T, Arch>(act, nan)));
    const bool saturates = kind == ActivationKind::sigmoid || kind == ActivationKind::tanh;
    const T far = kind == ActivationKind::relu_squared ? huge * huge : saturates ? T(1) : huge;
    CHECK(value_at<T, Arch>(act, huge) == far);
    CHECK(value_at<T, Arch>(act, inf) == (saturates ? T(1) : inf));
    const T low = kind == ActivationKind::identity ? -huge : kind == ActivationKind::tanh ? T(-1) : T(0);
    CHECK(value_at<T, Arch>(act, -huge) == low);
    const T slope = kind == ActivationKind::relu_squared ? 2 * huge : saturates ? T(0) : T(1);
    CHECK(derivative_at<T, Arch>(act, huge) == slope);
    CHECK(derivative_at<T, Arch>(act, -huge) == (kind == ActivationKind::identity ? T(1) : T(0)));
    const bool product = kind == ActivationKind::silu || kind == ActivationKind::quick_gelu ||
                         kind == ActivationKind::gelu_erf || kind == ActivationKind::gelu_tanh;
    const T at_minus_inf = value_at<T, Arch>(act, -inf);
    if (product) {
      CHECK(moe::is_nan(at_minus_inf));
    } else {
      CHECK(at_minus_inf == (kind == ActivationKind::identity ? -inf : low));
    }
  }
}

TEST_CASE("activations at 1e30, infinity and NaN", "[kernel][smoke]") {
  check_limits<float, moe::native_arch>();
  check_limits<double, moe::native_arch>();
  check_limits<float, moe::reference_arch>();
  check_limits<double, moe::reference_arch>();
}

TEST_CASE("the run-time choice is the type it names", "[kernel]") {
  std::set<std::string> names;
  for (const ActivationKind kind : kKinds) {
    const AnyActivation any{kind};
    CHECK(names.insert(any.name()).second);
    any.visit([&](const auto& act) {
      CHECK(std::string(any.name()) == act.name());
      for (const float x : {-3.0f, -0.4f, 0.0f, 0.7f, 5.0f}) {
        const float v[] = {any.value(x), any.derivative(x)}, w[] = {act.value(x), act.derivative(x)};
        CHECK(test::first_bit_difference(v, w, 2) == -1);
      }
    });
  }
  CHECK(std::string(AnyActivation{}.name()) == "silu");
  CHECK(std::string(moe::GeluTanh::name()) == "gelu_tanh");
}

static_assert(moe::Activation<moe::Silu> && moe::Activation<AnyActivation> && !moe::Activation<int>);

}  // namespace
