// What a caller can get wrong is checked in every build type and reported by one of these exceptions, before
// anything is written (contract C4). Messages are built in a fixed buffer: no std::string, so that no weak
// symbol of the standard library is instantiated here (contract C7).
#pragma once

#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <type_traits>

#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

/// A matrix, vector or segment list has the wrong extent, stride or layout.
struct shape_error : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};
/// An option of a router, bank, capacity policy or call is out of its range.
struct config_error : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};
/// A route handed in from outside names an expert that does not exist, or one expert twice for a token.
struct route_error : std::out_of_range {
  using std::out_of_range::out_of_range;
};
/// NaN, +inf or an all-masked row where a number is needed.
struct numeric_error : std::domain_error {
  using std::domain_error::domain_error;
};
/// A caller-owned workspace is too small.
struct workspace_error : std::length_error {
  using std::length_error::length_error;
};
/// A product of sizes does not fit Index.
struct size_error : std::overflow_error {
  using std::overflow_error::overflow_error;
};
/// A call out of order: a tape of another batch or layer, a result asked for before it exists.
struct state_error : std::logic_error {
  using std::logic_error::logic_error;
};
/// A file cannot be opened, read, written or renamed.
struct file_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// Bytes that are not what they claim to be (saved parameters, checkpoints).
struct format_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

namespace impl {

/// Message under construction; what does not fit is cut. One compiled copy of each append: messages are many,
/// and a user's compiler would optimise every loop of each.
class Text {
 public:
  MOE_NOINLINE void append(const char* text) noexcept {
    while (*text != '\0' && length_ + 1 < sizeof(buffer_)) buffer_[length_++] = *text++;
    buffer_[length_] = '\0';
  }
  template <class N>
  requires std::is_arithmetic_v<N>
  void append(N value) noexcept {
    if constexpr (std::is_floating_point_v<N>) {
      append_real(static_cast<double>(value));
    } else if constexpr (std::is_signed_v<N>) {
      append_signed(static_cast<std::int64_t>(value));
    } else {
      append_unsigned(static_cast<std::uint64_t>(value));
    }
  }
  const char* c_str() const noexcept { return buffer_; }

 private:
  MOE_NOINLINE void append_real(double value) noexcept {
    char digits[40];
    std::snprintf(digits, sizeof digits, "%g", value);
    append(static_cast<const char*>(digits));
  }
  MOE_NOINLINE void append_signed(std::int64_t value) noexcept {
    char digits[24];
    std::snprintf(digits, sizeof digits, "%" PRId64, value);
    append(static_cast<const char*>(digits));
  }
  MOE_NOINLINE void append_unsigned(std::uint64_t value) noexcept {
    char digits[24];
    std::snprintf(digits, sizeof digits, "%" PRIu64, value);
    append(static_cast<const char*>(digits));
  }

  char buffer_[2048] = {};
  std::size_t length_ = 0;
};

}  // namespace impl

namespace impl {

/// What a part of a message is handed on as: texts of any length, and numbers of any width, are of one type.
template <class T>
using MessagePart = std::conditional_t<
    !std::is_arithmetic_v<T>, const char*,
    std::conditional_t<std::is_floating_point_v<T>, double,
                       std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>>>;

template <class Error, class... Parts>
[[noreturn]] MOE_NOINLINE void fail_with(Parts... parts) {
  Text text;
  text.append("moe: ");
  (text.append(parts), ...);
  throw Error(text.c_str());
}

}  // namespace impl

/// Throws Error with the parts (texts and numbers) joined behind "moe: ".
template <class Error, class... Parts>
[[noreturn]] MOE_ALWAYS_INLINE void fail(const Parts&... parts) {
  impl::fail_with<Error, impl::MessagePart<Parts>...>(parts...);
}

/// `argument` must have exactly `expected` of `what` ("rows", "columns", "entries").
inline void require_extent(const char* argument, const char* what, Index expected, Index actual) {
  if (expected != actual) {
    fail<shape_error>(argument, ": expected ", expected, " ", what, ", got ", actual);
  }
}

/// `argument` must lie in [low, high].
inline void require_range(const char* argument, Index value, Index low, Index high) {
  if (value < low || value > high) {
    fail<config_error>(argument, ": expected a value in [", low, ", ", high, "], got ", value);
  }
}

/// a * b for sizes; size_error naming the product when it does not fit Index.
constexpr Index checked_product(const char* what, Index a, Index b) {
  if (a < 0 || b < 0 || (b != 0 && a > PTRDIFF_MAX / b)) {
    fail<size_error>(what, ": expected a product of sizes that fits 63 bits, got ", a, " x ", b);
  }
  return a * b;
}

template <class... More>
constexpr Index checked_product(const char* what, Index a, Index b, More... more) {
  return checked_product(what, checked_product(what, a, b), more...);
}

MOE_NAMESPACE_END
