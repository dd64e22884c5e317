#include "moe/core/check.hpp"

#include <cstring>
#include <limits>
#include <string>

#include "support/catch.hpp"
#include "support/errors.hpp"

namespace {

using moe::checked_product;
using moe::fail;
using moe::Index;
using test::message_of;

static_assert(std::is_base_of_v<std::invalid_argument, moe::shape_error>);
static_assert(std::is_base_of_v<std::invalid_argument, moe::config_error>);
static_assert(std::is_base_of_v<std::out_of_range, moe::route_error>);
static_assert(std::is_base_of_v<std::domain_error, moe::numeric_error>);
static_assert(std::is_base_of_v<std::length_error, moe::workspace_error>);
static_assert(std::is_base_of_v<std::overflow_error, moe::size_error>);
static_assert(std::is_base_of_v<std::logic_error, moe::state_error>);
static_assert(std::is_base_of_v<std::runtime_error, moe::format_error>);

constexpr Index kMax = std::numeric_limits<Index>::max();
constexpr Index kMin = std::numeric_limits<Index>::min();

TEST_CASE("fail joins texts and numbers", "[core]") {
  CHECK(message_of<moe::state_error>([] {
          fail<moe::state_error>("tape: got ", Index{-3}, " of ", 7u, ".");
        }) == "moe: tape: got -3 of 7.");
  CHECK(message_of<moe::config_error>([] {
          fail<moe::config_error>("a ", 0.25, " b ", 1e300, " c ", -2.5f);
        }) == "moe: a 0.25 b 1e+300 c -2.5");
  CHECK(message_of<moe::config_error>([] { fail<moe::config_error>(kMin, " ", kMax, " ", UINT64_MAX); }) ==
        "moe: -9223372036854775808 9223372036854775807 18446744073709551615");
  const char* const text = "runtime text";
  CHECK(message_of<moe::format_error>([&] { fail<moe::format_error>(text, std::int8_t{-5}, true); }) ==
        "moe: runtime text-51");
}

TEST_CASE("fail names what is not a number", "[core]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  const std::string text = message_of<moe::numeric_error>([&] { fail<moe::numeric_error>(nan, " ", -inf); });
  CHECK((text == "moe: nan -inf" || text == "moe: -nan -inf"));
}

TEST_CASE("fail cuts what does not fit its buffer", "[core]") {
  const std::string longest(8000, 'x');
  const std::string text =
      message_of<moe::shape_error>([&] { fail<moe::shape_error>(longest.c_str(), 12345); });
  CHECK(text.size() == 2047);  // 2048 bytes with the terminator
  CHECK(text == ("moe: " + longest).substr(0, 2047));
  // A number at the edge is cut as well.
  const std::string edge(2040, 'y');
  CHECK(message_of<moe::shape_error>([&] { fail<moe::shape_error>(edge.c_str(), 12345); }) ==
        "moe: " + edge + "12");
}

TEST_CASE("require_extent names argument, expected and actual", "[core]") {
  moe::require_extent("x", "columns", 4, 4);
  CHECK(message_of<moe::shape_error>([] { moe::require_extent("x", "columns", 4, -5); }) ==
        "moe: x: expected 4 columns, got -5");
}

TEST_CASE("require_range names argument, range and actual", "[core]") {
  for (const Index value : {3, 4, 5}) moe::require_range("K", value, 3, 5);
  for (const Index value : {Index{2}, Index{6}, kMin, kMax}) {
    CHECK(message_of<moe::config_error>([&] { moe::require_range("K", value, 3, 5); }) ==
          "moe: K: expected a value in [3, 5], got " + std::to_string(value));
  }
}

TEST_CASE("checked_product multiplies or throws", "[core]") {
  CHECK(checked_product("p", 6, 7) == 42);
  CHECK(checked_product("p", 0, kMax) == 0);
  CHECK(checked_product("p", kMax, 0) == 0);
  CHECK(checked_product("p", 1, kMax) == kMax);
  CHECK(checked_product("p", kMax / 2, 2) == kMax - 1);
  CHECK(checked_product("p", 2, 3, 5, 7) == 210);
  CHECK(checked_product("p", Index{1} << 31, Index{1} << 31) == Index{1} << 62);
  const std::string expects = "moe: p: expected a product of sizes that fits 63 bits, got ";
  const auto message = [](Index a, Index b) {
    return message_of<moe::size_error>([=] { checked_product("p", a, b); });
  };
  CHECK(message(kMax / 2 + 1, 2) == expects + "4611686018427387904 x 2");
  CHECK(message(2, kMax / 2 + 1) == expects + "2 x 4611686018427387904");
  CHECK(message(Index{1} << 32, Index{1} << 31) == expects + "4294967296 x 2147483648");
  CHECK(message(-1, 3) == expects + "-1 x 3");
  CHECK(message(3, -1) == expects + "3 x -1");
  CHECK(message(-1, -1) == expects + "-1 x -1");
  CHECK(message(kMin, -1) == expects + "-9223372036854775808 x -1");
  // In a longer product the step that overflows is named.
  CHECK(message_of<moe::size_error>([] { checked_product("p", 2, 3, kMax); }) ==
        expects + "6 x 9223372036854775807");
}

}  // namespace
