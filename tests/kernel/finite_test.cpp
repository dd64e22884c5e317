#include "moe/kernel/finite.hpp"

#include <cstring>
#include <limits>
#include <vector>

#include "kernel/guarded_row.hpp"
#include "support/catch.hpp"

namespace {

using moe::Index;

template <class T, class Bits>
T from_bits(Bits bits) {
  T x;
  static_assert(sizeof(T) == sizeof(Bits));
  std::memcpy(&x, &bits, sizeof(T));
  return x;
}

struct Kind {
  bool nan, finite, pos_inf, neg_inf;
};

template <class T>
void check(T x, Kind kind) {
  CHECK(moe::is_nan(x) == kind.nan);
  CHECK(moe::is_finite(x) == kind.finite);
  CHECK(moe::is_pos_inf(x) == kind.pos_inf);
  CHECK(moe::is_neg_inf(x) == kind.neg_inf);
  CHECK(moe::first_bad_logit(&x, 1) == (kind.nan || kind.pos_inf ? 0 : -1));
  CHECK(moe::any_above_neg_inf(&x, 1) == !kind.neg_inf);
  CHECK(moe::has_nan(&x, 1) == kind.nan);
}

constexpr Kind kNan{true, false, false, false}, kFinite{false, true, false, false},
    kPosInf{false, false, true, false}, kNegInf{false, false, false, true};

TEST_CASE("every bit pattern class is recognised", "[kernel][smoke]") {
  // All exponents with the extremes of the mantissa, both signs. Patterns, so that -ffast-math cannot fold
  // them.
  for (std::uint32_t sign = 0; sign < 2; ++sign) {
    for (std::uint32_t exponent = 0; exponent < 256; ++exponent) {
      for (const std::uint32_t mantissa : {0u, 1u, 0x400000u, 0x7FFFFFu}) {
        const bool special = exponent == 255, inf = special && mantissa == 0;
        check(from_bits<float>(sign << 31 | exponent << 23 | mantissa), !special    ? kFinite
                                                                        : !inf      ? kNan
                                                                        : sign == 0 ? kPosInf
                                                                                    : kNegInf);
      }
    }
    for (std::uint64_t exponent = 0; exponent < 2048; ++exponent) {
      for (const std::uint64_t mantissa : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{0x8000000000000},
                                           std::uint64_t{0xFFFFFFFFFFFFF}}) {
        const bool special = exponent == 2047, inf = special && mantissa == 0;
        check(from_bits<double>(std::uint64_t{sign} << 63 | exponent << 52 | mantissa), !special ? kFinite
                                                                                        : !inf   ? kNan
                                                                                        : sign == 0
                                                                                            ? kPosInf
                                                                                            : kNegInf);
      }
    }
  }
}

template <class T>
void check_rows() {
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  for (const Index n : test::kSizes) {
    std::vector<T> row(static_cast<std::size_t>(n), T(-1));
    CHECK(moe::first_bad_logit(row.data(), n) == -1);
    CHECK(moe::any_above_neg_inf(row.data(), n) == (n > 0));
    CHECK_FALSE(moe::has_nan(row.data(), n));
    for (Index at = 0; at < n; at += 1 + n / 20) {
      for (const T bad : {inf, nan, -nan}) {
        std::vector<T> spoiled(row);
        spoiled[static_cast<std::size_t>(at)] = bad;
        spoiled.back() = nan;
        CHECK(moe::first_bad_logit(spoiled.data(), n) == at);
        CHECK(moe::has_nan(spoiled.data(), n));
      }
      std::vector<T> masked(static_cast<std::size_t>(n), -inf);
      CHECK_FALSE(moe::any_above_neg_inf(masked.data(), n));
      CHECK(moe::first_bad_logit(masked.data(), n) == -1);
      masked[static_cast<std::size_t>(at)] = std::numeric_limits<T>::lowest();
      CHECK(moe::any_above_neg_inf(masked.data(), n));
    }
  }
}

TEST_CASE("rows with a spoiled element", "[kernel]") {
  check_rows<float>();
  check_rows<double>();
}

static_assert(moe::is_nan(std::numeric_limits<double>::quiet_NaN()) && !moe::is_nan(1.0f));
static_assert(moe::is_neg_inf(-std::numeric_limits<float>::infinity()));

}  // namespace
