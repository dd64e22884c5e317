#include "moe/router/near_best.hpp"

#include "support/catch.hpp"

TEST_CASE("near the best: within 2 eps of the larger magnitude", "[router]") {
  using moe::impl::is_near_best;
  CHECK(is_near_best(1.0, 0.8, 0.1));
  CHECK(!is_near_best(1.0, 0.79, 0.1));
  CHECK(is_near_best(-1.0, -1.25, 0.1));  // over |h|, which is larger
  CHECK(!is_near_best(-1.0, -1.26, 0.1));
  CHECK(!is_near_best(0.1, -0.1, 0.5));  // 0.2 / 0.1
  CHECK(is_near_best(0.0, 0.0, 0.0));    // 0 / 0
  CHECK(is_near_best(2.0, 2.0, 0.0));
  CHECK(!is_near_best(2.0F, 1.9F, 0.0));
}
