#include "moe/router/selection/replayed.hpp"

#include "moe/router/selection/top_k.hpp"
#include "support/catch.hpp"

TEST_CASE("a replay is a selection around another", "[router]") {
  using Two = moe::Replayed<moe::TopKSelection>;
  STATIC_REQUIRE(moe::Selection<Two>);
  const Two two(moe::TopKSelection(2), 6);
  CHECK(two.inner().k() == 2);
  CHECK(two.most({}, 6) == 2);
  two.check(6);
  CHECK_THROWS_WITH(two.check(5), "moe: replayed selection: expected a router of 6 outputs, got 5");
  CHECK_THROWS_AS(Two(moe::TopKSelection(2), 0), moe::config_error);
}
