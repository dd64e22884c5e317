#include "moe/router/vector_length.hpp"

#include <cmath>
#include <limits>

#include "support/catch.hpp"

using moe::impl::length_of;

TEST_CASE("lengths are at least 1e-12, exact where squares overflow, and NaN of what is not finite",
          "[router]") {
  const double v[] = {3, -4}, none[] = {0, 0};
  CHECK(length_of(v, 2) == 5);
  CHECK(length_of(none, 2) == moe::impl::kShortestLength);
  const float large[] = {3e30f, 4e30f};
  CHECK(std::abs(length_of(large, 2) / 5e30f - 1) < 1e-6f);
  const double too_large[] = {1e300, 1e300};
  CHECK(std::isnan(length_of(too_large, 2)));
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    const double w[] = {1, bad};
    CHECK(std::isnan(length_of(w, 2)));
  }
}
