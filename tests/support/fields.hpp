// The members of an aggregate one by one, for tests that try every option.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

namespace test {

/// In the place of a member of any type.
struct AnyMember {
  template <class T>
  operator T() const;  // NOLINT(google-explicit-constructor)
};

template <class T, class... Members>
constexpr std::size_t member_count() {
  if constexpr (requires { T{Members{}..., AnyMember{}}; }) {
    return member_count<T, Members..., AnyMember>();
  } else {
    return sizeof...(Members);
  }
}

/// f(member) for every member, in order; up to 12.
template <class T, class F>
void each_member(T& of, F&& f) {
  constexpr std::size_t n = member_count<T>();
  static_assert(n <= 12, "a line more is needed here");
  const auto all = [&](auto&... member) { (f(member), ...); };
  // clang-format off
  if constexpr (n == 1) { auto& [a] = of; all(a); }
  if constexpr (n == 2) { auto& [a, b] = of; all(a, b); }
  if constexpr (n == 3) { auto& [a, b, c] = of; all(a, b, c); }
  if constexpr (n == 4) { auto& [a, b, c, d] = of; all(a, b, c, d); }
  if constexpr (n == 5) { auto& [a, b, c, d, e] = of; all(a, b, c, d, e); }
  if constexpr (n == 6) { auto& [a, b, c, d, e, g] = of; all(a, b, c, d, e, g); }
  if constexpr (n == 7) { auto& [a, b, c, d, e, g, h] = of; all(a, b, c, d, e, g, h); }
  if constexpr (n == 8) { auto& [a, b, c, d, e, g, h, i] = of; all(a, b, c, d, e, g, h, i); }
  if constexpr (n == 9) { auto& [a, b, c, d, e, g, h, i, j] = of; all(a, b, c, d, e, g, h, i, j); }
  if constexpr (n == 10) { auto& [a, b, c, d, e, g, h, i, j, k] = of; all(a, b, c, d, e, g, h, i, j, k); }
  if constexpr (n == 11) { auto& [a, b, c, d, e, g, h, i, j, k, l] = of; all(a, b, c, d, e, g, h, i, j, k, l); }
  if constexpr (n == 12) { auto& [a, b, c, d, e, g, h, i, j, k, l, m] = of; all(a, b, c, d, e, g, h, i, j, k, l, m); }
  // clang-format on
}

/// The same of every member of type Number, also of members that are aggregates.
template <class Number, class T, class F>
void each_number(T& of, F&& f) {
  each_member(of, [&]<class Member>(Member& member) {
    if constexpr (std::is_same_v<Member, Number>) {
      f(member);
    } else if constexpr (std::is_class_v<Member> && std::is_aggregate_v<Member>) {
      each_number<Number>(member, f);
    }
  });
}

/// try_it(options) for `options` with one Number after the other replaced by `bad`; which: its place.
template <class Number, class T, class F>
void with_each_number(const T& options, Number bad, F&& try_it) {
  for (std::size_t which = 0;; ++which) {
    T changed = options;
    std::size_t i = 0;
    each_number<Number>(changed, [&](Number& number) {
      if (i++ == which) number = bad;
    });
    if (which == i) return;
    try_it(changed, which);
  }
}

}  // namespace test
