#include "moe/kernel/math.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "kernel/guarded_row.hpp"
#include "support/catch.hpp"
#include "support/close.hpp"

namespace {

using moe::Index;
using moe::native_arch;
namespace math = moe::math;

/// f on every x, by batches of Arch (the last one padded with 0), or one by one where Arch has none.
template <class Arch, class T, class F>
std::vector<T> map(const std::vector<T>& x, const F& f) {
  std::vector<T> y(x.size());
  const Index n = static_cast<Index>(x.size());
  if constexpr (moe::SimdArch<Arch, T>) {
    using B = moe::Batch<T, Arch>;
    constexpr Index kWidth = static_cast<Index>(B::size);
    for (Index j = 0; j < n; j += kWidth) {
      const Index count = n - j < kWidth ? n - j : kWidth;
      moe::store_partial(B(f(moe::load_partial<B>(x.data() + j, count))), y.data() + j, count);
    }
  } else {
    for (std::size_t j = 0; j < x.size(); ++j) y[j] = f(x[j]);
  }
  return y;
}

/// Points of [low, high]: a sweep, a finer one towards 0, subnormals, the ends and both zeros, as far as
/// inside.
template <class T>
std::vector<T> points(double low, double high) {
  std::vector<T> x;
  const auto add = [&](double v) {
    if (v >= low && v <= high) x.push_back(static_cast<T>(v));
  };
  constexpr int kSteps = 60000;
  for (int i = 0; i <= kSteps; ++i) add(low + (high - low) * i / kSteps);
  for (int exponent = -1073; exponent <= 10; ++exponent) {
    for (const double m : {1.0, 1.2345678, 1.7654321}) {
      if (std::ldexp(m, exponent) < std::numeric_limits<T>::denorm_min()) continue;
      add(std::ldexp(m, exponent));
      add(-std::ldexp(m, exponent));
    }
  }
  add(0.0);
  add(-0.0);
  return x;
}

/// Phi(-x) from its factors.
constexpr auto normal_tail = [](const auto& x) {
  const auto f = math::normal_tail_factors(x);
  return std::decay_t<decltype(x)>(f.a * f.b);
};

struct Range {
  double low, high;
};

/// |f - exact| <= units(x) u |exact| + tiny, over the range, for batches and for scalars.
template <class T, class F, class Exact, class Units>
void check(const char* name, Range range, const F& f, const Exact& exact, const Units& units) {
  INFO(name << " in " << (sizeof(T) == 4 ? "float" : "double"));
  const std::vector<T> x = points<T>(range.low, range.high);
  const auto compare = [&](const std::vector<T>& y) {
    const Index at = test::first_outside(
        y.data(), static_cast<Index>(y.size()),
        [&](Index j) { return exact(static_cast<long double>(x[static_cast<std::size_t>(j)])); },
        [&](Index j) {
          const long double v = x[static_cast<std::size_t>(j)];
          return units(v) * test::kRoundoff<T> * std::fabs(exact(v)) + test::kTiny<T>;
        });
    INFO("at x = " << (at < 0 ? T(0) : x[static_cast<std::size_t>(at)]));
    CHECK(at == -1);
  };
  compare(map<native_arch>(x, f));
  compare(map<moe::reference_arch>(x, f));
}

long double exact_cdf(long double x) {
  return 0.5L * std::erfc(-x / std::sqrt(2.0L));
}

template <class T>
void check_accuracy() {
  const double far = sizeof(T) == 4 ? 95 : 720;          // beyond the underflow of e^-x
  const double normal_far = sizeof(T) == 4 ? 14.5 : 39;  // and of e^(-x^2/2)
  check<T>(
      "exp", {-far, 0}, [](const auto& x) { return math::exp_nonpositive(x); },
      [](long double x) { return std::exp(x); }, [](long double) { return 2.0L; });
  check<T>(
      "exp near 0", {-2, 0}, [](const auto& x) { return math::exp_nonpositive(x); },
      [](long double x) { return std::exp(x); }, [](long double) { return 2.0L; });
  check<T>(
      "expm1", {-far, 0}, [](const auto& x) { return math::expm1_nonpositive(x); },
      [](long double x) { return std::expm1(x); }, [](long double) { return 3.0L; });
  check<T>(
      "expm1 near 0", {-1, 0}, [](const auto& x) { return math::expm1_nonpositive(x); },
      [](long double x) { return std::expm1(x); }, [](long double) { return 3.0L; });
  check<T>(
      "log1p", {0, 1}, [](const auto& x) { return math::log1p_unit(x); },
      [](long double x) { return std::log1p(x); }, [](long double) { return 5.0L; });
  check<T>(
      "normal_tail", {0, normal_far}, normal_tail, [](long double x) { return exact_cdf(-x); },
      [](long double x) { return 12 + 2 * x * x; });
  check<T>(
      "sigmoid(x)", {-far, far}, [](const auto& x) { return math::sigmoid_pair(x).of_x; },
      [](long double x) { return 1 / (1 + std::exp(-x)); }, [](long double) { return 5.0L; });
  check<T>(
      "sigmoid(-x)", {-far, far}, [](const auto& x) { return math::sigmoid_pair(x).of_minus_x; },
      [](long double x) { return 1 / (1 + std::exp(x)); }, [](long double) { return 5.0L; });
  check<T>(
      "tanh", {-25, 25}, [](const auto& x) { return math::tanh(x); },
      [](long double x) { return std::tanh(x); }, [](long double) { return 5.0L; });
  check<T>(
      "tanh near 0", {-1, 1}, [](const auto& x) { return math::tanh(x); },
      [](long double x) { return std::tanh(x); }, [](long double) { return 5.0L; });
  check<T>(
      "softplus", {-far, far}, [](const auto& x) { return math::softplus(x); },
      [](long double x) { return std::fmax(x, 0.0L) + std::log1p(std::exp(-std::fabs(x))); },
      [](long double) { return 7.0L; });
  check<T>(
      "normal_cdf", {-normal_far, normal_far}, [](const auto& x) { return math::normal_cdf(x); }, exact_cdf,
      [](long double x) { return 13 + 2 * x * x; });
  check<T>(
      "square_root", {0, 1000}, [](const auto& x) { return math::square_root(x); },
      [](long double x) { return std::sqrt(x); }, [](long double) { return 1.0L; });
  check<T>(
      "normal_density", {-normal_far, normal_far}, [](const auto& x) { return math::normal_density(x); },
      [](long double x) { return std::exp(-x * x / 2) / std::sqrt(2 * 3.14159265358979323846264L); },
      [](long double x) { return 5 + x * x / 2; });
}

TEST_CASE("elementary functions stay within their bounds", "[kernel][smoke][arm]") {
  check_accuracy<float>();
}

TEST_CASE("elementary functions stay within their bounds in double", "[kernel]") {
  check_accuracy<double>();
}

template <class T, class Arch>
void check_limits() {
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN(), huge = T(1e30);
  const auto at = [](T x, const auto& f) { return map<Arch>(std::vector<T>{x}, f)[0]; };
  const auto exp = [](const auto& x) { return math::exp_nonpositive(x); };
  const auto expm1 = [](const auto& x) { return math::expm1_nonpositive(x); };
  const auto positive = [](const auto& x) { return math::sigmoid_pair(x).of_x; };
  const auto negative = [](const auto& x) { return math::sigmoid_pair(x).of_minus_x; };
  const auto tanh = [](const auto& x) { return math::tanh(x); };
  const auto softplus = [](const auto& x) { return math::softplus(x); };

  CHECK(at(0, exp) == 1);
  CHECK(at(T(-0.0), exp) == 1);
  CHECK(at(0, expm1) == 0);
  for (const T far : {huge, inf}) {
    CHECK(at(-far, exp) == 0);
    CHECK(at(-far, expm1) == -1);
    CHECK(at(far, normal_tail) == 0);
    CHECK(at(far, positive) == 1);
    CHECK(at(far, negative) == 0);
    CHECK(at(-far, positive) == 0);
    CHECK(at(-far, negative) == 1);
    CHECK(at(far, tanh) == 1);
    CHECK(at(-far, tanh) == -1);
    CHECK(at(far, softplus) == far);
    CHECK(at(-far, softplus) == 0);
    CHECK(at(far, [](const auto& x) { return math::clamp(x, -2, 3); }) == 3);
    CHECK(at(-far, [](const auto& x) { return math::clamp(x, -2, 3); }) == -2);
  }
  const auto is_nan_at = [&](const auto& f) { return moe::is_nan(at(nan, f)); };
  CHECK(is_nan_at(exp));
  CHECK(is_nan_at(expm1));
  CHECK(is_nan_at([](const auto& x) { return math::log1p_unit(x); }));
  CHECK(is_nan_at(normal_tail));
  CHECK(is_nan_at(positive));
  CHECK(is_nan_at(negative));
  CHECK(is_nan_at(tanh));
  CHECK(is_nan_at(softplus));
  CHECK(is_nan_at([](const auto& x) { return math::normal_cdf(x); }));
  CHECK(is_nan_at([](const auto& x) { return math::normal_density(x); }));
  CHECK(is_nan_at([](const auto& x) { return math::clamp(x, -2, 3); }));
  CHECK(is_nan_at([](const auto& x) { return math::at_most(x, 3); }));
  CHECK(is_nan_at([](const auto& x) { return math::positive_part(x); }));
}

TEST_CASE("elementary functions at 0, 1e30, infinity and NaN", "[kernel][smoke]") {
  check_limits<float, native_arch>();
  check_limits<double, native_arch>();
  check_limits<float, moe::reference_arch>();
  check_limits<double, moe::reference_arch>();
}

template <class T, class Arch>
void check_selections() {
  const std::vector<T> x = {T(-3), T(-0.0), T(0), T(0.5), T(2), T(2.5), T(7)};
  const auto check_row = [&](const auto& f, const std::vector<T>& want) {
    const std::vector<T> got = map<Arch>(x, f);
    CHECK(test::first_bit_difference(got.data(), want.data(), static_cast<Index>(want.size())) == -1);
  };
  check_row([](const auto& v) { return math::at_most(v, 2); }, {-3, T(-0.0), 0, T(0.5), 2, 2, 2});
  check_row([](const auto& v) { return math::clamp(v, -1, 2); }, {-1, T(-0.0), 0, T(0.5), 2, 2, 2});
  check_row([](const auto& v) { return math::positive_part(v); }, {0, 0, 0, T(0.5), 2, T(2.5), 7});
  check_row([](const auto& v) { return math::where_positive(v, std::decay_t<decltype(v)>(9)); },
            {0, 0, 0, 9, 9, 9, 9});
  check_row([](const auto& v) { return math::where_at_most(v, 2, std::decay_t<decltype(v)>(9)); },
            {9, 9, 9, 9, 9, 0, 0});
}

TEST_CASE("bounds and masks", "[kernel]") {
  check_selections<float, native_arch>();
  check_selections<double, native_arch>();
  check_selections<float, moe::reference_arch>();
  check_selections<double, moe::reference_arch>();
}

template <class T, class Arch>
void check_subnormals() {
  constexpr T kLeast = std::numeric_limits<T>::min(), kInf = std::numeric_limits<T>::infinity();
  const std::vector<T> x{kLeast, -kLeast, kLeast / 2, -kLeast / 4, 0, 1, -kInf};
  CHECK(map<Arch>(x, [](const auto& v) { return math::without_subnormal(v); }) ==
        std::vector<T>{kLeast, -kLeast, 0, 0, 0, 1, -kInf});
}

TEST_CASE("numbers below the smallest normal one become 0", "[kernel]") {
  check_subnormals<float, native_arch>();
  check_subnormals<double, native_arch>();
  check_subnormals<float, moe::reference_arch>();
  check_subnormals<double, moe::reference_arch>();
}

TEST_CASE("log_positive is the C library's logarithm", "[kernel]") {
  CHECK(math::log_positive(1.0f) == 0.0f);
  CHECK(test::within(math::log_positive(10.0f), 2.302585093L, 1e-6L));
  CHECK(test::within(math::log_positive(10.0), 2.302585092994045684L, 1e-15L));
}

}  // namespace
