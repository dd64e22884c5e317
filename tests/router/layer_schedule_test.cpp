#include "moe/router/layer_schedule.hpp"

#include <vector>

#include "support/catch.hpp"

namespace {

using moe::Index;
using moe::LayerSchedule;
using moe::LayerShape;

std::vector<Index> of(LayerShape shape, Index layers = 5) {
  const LayerSchedule schedule({.shape = shape, .least = 2, .most = 10, .layers = layers});
  std::vector<Index> all;
  for (Index l = 0; l < layers; ++l) all.push_back(schedule.at(l));
  return all;
}
using Counts = std::vector<Index>;

}  // namespace

TEST_CASE("six shapes of experts over the depth", "[router]") {
  CHECK(of(LayerShape::uniform) == Counts{10, 10, 10, 10, 10});
  CHECK(of(LayerShape::ascending) == Counts{2, 4, 6, 8, 10});
  CHECK(of(LayerShape::descending) == Counts{10, 8, 6, 4, 2});
  CHECK(of(LayerShape::pyramid) == Counts{2, 6, 10, 6, 2});
  CHECK(of(LayerShape::inverse) == Counts{10, 6, 2, 6, 10});
  CHECK(of(LayerShape::wave) == Counts{6, 10, 6, 2, 6});
  CHECK(of(LayerShape::ascending, 1) == Counts{2});
  CHECK(of(LayerShape::descending, 2) == Counts{10, 2});
}

TEST_CASE("options of a layer schedule are checked", "[router]") {
  CHECK_THROWS_AS(LayerSchedule({.least = 0}), moe::config_error);
  CHECK_THROWS_WITH(LayerSchedule({.least = 4, .most = 3}),
                    "moe: most experts of a layer: expected a value in [4, 2147483647], got 3");
  CHECK_THROWS_AS(LayerSchedule({.layers = 0}), moe::config_error);
  CHECK_THROWS_WITH(LayerSchedule({.layers = 3}).at(3), "moe: layer: expected a value in [0, 2], got 3");
}
