// The fields of an aggregate of options, one by one: what sweeps set them to nonsense with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

#include "support/fields.hpp"

namespace test {

/// What few options mean, and no memory holds.
inline constexpr std::ptrdiff_t kWrongSizes[] = {-1, 0, PTRDIFF_MAX, -PTRDIFF_MAX, PTRDIFF_MAX / 2};
inline constexpr double kWrongNumbers[] = {-1,
                                           0,
                                           1e300,
                                           std::numeric_limits<double>::quiet_NaN(),
                                           std::numeric_limits<double>::infinity(),
                                           -std::numeric_limits<double>::infinity()};

/// f(number of the field, field) for each.
template <class T, class F>
void for_each_field(T& options, const F& f) {
  int i = 0;
  each_member(options, [&](auto& field) { f(i++, field); });
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
