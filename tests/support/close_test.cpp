#include "support/close.hpp"

#include <limits>

#include "support/catch.hpp"

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

TEST_CASE("within is exact at the bound and symmetric in both signs", "[support]") {
  CHECK(test::within(1.5f, 1.0L, 0.5L));
  CHECK(test::within(0.5f, 1.0L, 0.5L));
  CHECK(test::within(-1.5f, -1.0L, 0.5L));
  CHECK(test::within(-0.5f, -1.0L, 0.5L));
  CHECK_FALSE(test::within(1.5f, 1.0L, 0.4999L));
  CHECK_FALSE(test::within(0.5f, 1.0L, 0.4999L));
  CHECK_FALSE(test::within(-1.5f, -1.0L, 0.4999L));
  CHECK_FALSE(test::within(-0.5f, -1.0L, 0.4999L));
  CHECK_FALSE(test::within(-1.0f, 1.0L, 1.0L));
  CHECK(test::within(2.0, 2.0L, 0.0L));
  CHECK_FALSE(test::within(-2.0, -2.0000001L, 0.0L));
}

TEST_CASE("within fails on NaN and on a useless bound", "[support]") {
  CHECK_FALSE(test::within(kNan, 0.0L, 1.0L));
  CHECK_FALSE(test::within(-kNan, 0.0L, 1.0L));
  CHECK_FALSE(test::within(0.0f, static_cast<long double>(kNan), 1.0L));
  CHECK_FALSE(test::within(kNan, static_cast<long double>(kNan), 1.0L));
  CHECK_FALSE(test::within(0.0f, 0.0L, static_cast<long double>(kNan)));
  CHECK_FALSE(test::within(0.0f, 0.0L, static_cast<long double>(kInf)));
  CHECK_FALSE(test::within(0.0f, 0.0L, -1.0L));
}

TEST_CASE("within matches an infinity only with itself", "[support]") {
  CHECK(test::within(kInf, static_cast<long double>(kInf), 0.0L));
  CHECK(test::within(-kInf, -static_cast<long double>(kInf), 0.0L));
  CHECK_FALSE(test::within(-kInf, static_cast<long double>(kInf), 1.0L));
  CHECK_FALSE(test::within(kInf, 3e38L, 1e300L));
  CHECK_FALSE(test::within(3e38f, static_cast<long double>(kInf), 1e300L));
}

TEST_CASE("first_outside names the first failure", "[support]") {
  const float row[] = {1, -2, kNan, 4};
  const auto expected = [](std::ptrdiff_t j) { return static_cast<long double>(j == 1 ? -2 : j + 1); };
  const auto bound = [](std::ptrdiff_t) { return 0.0L; };
  CHECK(test::first_outside(row, 2, expected, bound) == -1);
  CHECK(test::first_outside(row, 4, expected, bound) == 2);
  CHECK(test::first_outside(row, 0, expected, bound) == -1);
  const float negative[] = {-1, 2};
  CHECK(test::first_outside(negative, 2, expected, bound) == 0);
}

TEST_CASE("first_bit_difference tells zeros apart and accepts equal NaN", "[support]") {
  const double a[] = {0.0, std::numeric_limits<double>::quiet_NaN(), 3};
  const double b[] = {0.0, std::numeric_limits<double>::quiet_NaN(), 4};
  const double c[] = {-0.0, 1, 3};
  CHECK(test::first_bit_difference(a, b, 2) == -1);
  CHECK(test::first_bit_difference(a, b, 3) == 2);
  CHECK(test::first_bit_difference(a, c, 3) == 0);
}

TEST_CASE("gamma and the constants", "[support]") {
  CHECK(test::kRoundoff<float> == 0x1p-24L);
  CHECK(test::kRoundoff<double> == 0x1p-53L);
  CHECK(test::kTiny<float> == 0x1p-126L);
  CHECK(test::gamma<float>(1) > 0x1p-24L);
  CHECK(test::gamma<float>(1 << 10) > 0x1p-14L);
  CHECK(test::gamma<float>(1 << 10) < 0x1.001p-14L);
}

}  // namespace
