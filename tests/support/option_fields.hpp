// The fields of an aggregate of options, one by one: what sweeps set them to nonsense with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

namespace test {

/// What few options mean, and no memory holds.
inline constexpr std::ptrdiff_t kWrongSizes[] = {-1, 0, PTRDIFF_MAX, -PTRDIFF_MAX, PTRDIFF_MAX / 2};
inline constexpr double kWrongNumbers[] = {-1,
                                           0,
                                           1e300,
                                           std::numeric_limits<double>::quiet_NaN(),
                                           std::numeric_limits<double>::infinity(),
                                           -std::numeric_limits<double>::infinity()};

namespace fields {
struct Anything {
  template <class T>
  operator T() const;
};
template <class T, class... Given>
constexpr std::size_t count() {
  if constexpr (requires { T{Given{}..., Anything{}}; }) {
    return count<T, Given..., Anything>();
  } else {
    return sizeof...(Given);
  }
}
}  // namespace fields

/// f(number of the field, field) for each of up to 8.
template <class T, class F>
void for_each_field(T& options, const F& f) {
  constexpr std::size_t n = fields::count<T>();
  static_assert(n <= 8);
  const auto all = [&f](auto&... field) {
    int i = 0;
    (f(i++, field), ...);
  };
  if constexpr (n == 1) {
    auto& [a] = options;
    all(a);
  } else if constexpr (n == 2) {
    auto& [a, b] = options;
    all(a, b);
  } else if constexpr (n == 3) {
    auto& [a, b, c] = options;
    all(a, b, c);
  } else if constexpr (n == 4) {
    auto& [a, b, c, d] = options;
    all(a, b, c, d);
  } else if constexpr (n == 5) {
    auto& [a, b, c, d, e] = options;
    all(a, b, c, d, e);
  } else if constexpr (n == 6) {
    auto& [a, b, c, d, e, g] = options;
    all(a, b, c, d, e, g);
  } else if constexpr (n == 7) {
    auto& [a, b, c, d, e, g, h] = options;
    all(a, b, c, d, e, g, h);
  } else if constexpr (n == 8) {
    auto& [a, b, c, d, e, g, h, i] = options;
    all(a, b, c, d, e, g, h, i);
  }
}

/// f(text, options) for `options` with each of its numbers, one at a time, one of those.
template <class Options, class F>
void for_each_nonsense(const Options& options, const F& f) {
  Options wrong = options;
  for_each_field(wrong, [&](int number, auto& field) {
    using Field = std::remove_reference_t<decltype(field)>;
    const Field right = field;
    const auto each = [&](const auto& values) {
      for (const auto value : values) {
        field = value;
        f("field " + std::to_string(number) + " = " + std::to_string(value), wrong);
      }
      field = right;
    };
    if constexpr (std::is_same_v<Field, double>) each(kWrongNumbers);
    if constexpr (std::is_same_v<Field, std::ptrdiff_t>) each(kWrongSizes);
  });
}

}  // namespace test
