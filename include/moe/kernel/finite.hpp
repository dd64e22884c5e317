// Tests of NaN and infinity by bit pattern: they keep their meaning under -ffast-math, which folds std::isnan
// to false.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <type_traits>

#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

template <std::floating_point T>
struct Bits {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "moe: bit tests exist for float and double only");
  using type = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  static constexpr type kSign = type{1} << (8 * sizeof(T) - 1);
  static constexpr type kInf = sizeof(T) == 4 ? type{0x7F800000u} : static_cast<type>(0x7FF0000000000000u);

  static constexpr type of(T x) noexcept { return std::bit_cast<type>(x); }
  static constexpr type magnitude(T x) noexcept { return of(x) & ~kSign; }
};

/// NaN of either sign, or +inf: what a router may not find among its logits (-inf masks an expert).
template <std::floating_point T>
constexpr bool is_bad_logit(T x) noexcept {
  return Bits<T>::magnitude(x) >= Bits<T>::kInf && Bits<T>::of(x) != (Bits<T>::kInf | Bits<T>::kSign);
}

}  // namespace impl

template <std::floating_point T>
constexpr bool is_nan(T x) noexcept {
  return impl::Bits<T>::magnitude(x) > impl::Bits<T>::kInf;
}

template <std::floating_point T>
constexpr bool is_finite(T x) noexcept {
  return impl::Bits<T>::magnitude(x) < impl::Bits<T>::kInf;
}

template <std::floating_point T>
constexpr bool is_pos_inf(T x) noexcept {
  return impl::Bits<T>::of(x) == impl::Bits<T>::kInf;
}

template <std::floating_point T>
constexpr bool is_neg_inf(T x) noexcept {
  return impl::Bits<T>::of(x) == (impl::Bits<T>::kInf | impl::Bits<T>::kSign);
}

/// Index of the first NaN or +inf in x[n], or -1.
template <std::floating_point T>
constexpr Index first_bad_logit(const T* x, Index n) noexcept {
  MOE_ASSERT(n >= 0);
  typename impl::Bits<T>::type bad = 0;  // no exit from this loop, so that it can be vectorised
  for (Index j = 0; j < n; ++j) bad |= static_cast<typename impl::Bits<T>::type>(impl::is_bad_logit(x[j]));
  if (bad == 0) return -1;
  for (Index j = 0; j < n; ++j) {
    if (impl::is_bad_logit(x[j])) return j;
  }
  return -1;
}

/// Whether every x[j], j in [0, n), is finite.
template <std::floating_point T>
constexpr bool all_finite(const T* x, Index n) noexcept {
  MOE_ASSERT(n >= 0);
  typename impl::Bits<T>::type bad = 0;  // no exit from this loop, so that it can be vectorised
  for (Index j = 0; j < n; ++j) bad |= static_cast<typename impl::Bits<T>::type>(!is_finite(x[j]));
  return bad == 0;
}

/// Whether some x[j], j in [0, n), is NaN.
template <std::floating_point T>
constexpr bool has_nan(const T* x, Index n) noexcept {
  MOE_ASSERT(n >= 0);
  for (Index j = 0; j < n; ++j) {
    if (is_nan(x[j])) return true;
  }
  return false;
}

/// Whether some x[j], j in [0, n), is not -inf: false means that every expert is masked. NaN counts as "not
/// -inf".
template <std::floating_point T>
constexpr bool any_above_neg_inf(const T* x, Index n) noexcept {
  MOE_ASSERT(n >= 0);
  for (Index j = 0; j < n; ++j) {
    if (!is_neg_inf(x[j])) return true;
  }
  return false;
}

MOE_NAMESPACE_END
