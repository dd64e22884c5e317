#include "moe/layer/named/adapt_dhm.hpp"

#include "support/catch.hpp"
#include "support/layer_laws.hpp"

TEST_CASE("AdaptDHM keeps the laws of layers", "[layer]") {
  const auto layer = [](moe::Index hidden) {
    return moe::adapt_dhm<double>({.clusters = {.width = 4, .clusters = 3}, .hidden = hidden});
  };
  test::check_layer(
      "AdaptDhm", [&] { return layer(3); }, [&] { return layer(4); });
}
