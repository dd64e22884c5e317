#include "moe/layer/soft/merging_layer.hpp"

#include "moe/layer/soft/smear.hpp"
#include "support/layer_laws.hpp"
#include "support/catch.hpp"

TEST_CASE("MergingLayer: laws", "[layer]") {
  const auto make = [] { return moe::smear<double>({.width = 5, .hidden = 6, .experts = 3, .bias = true, .dropout = 0}, moe::Silu{}); };
  const auto other = [] { return moe::smear<double>({.width = 5, .hidden = 6, .experts = 4, .bias = true, .dropout = 0}, moe::Silu{}); };
  test::check_layer("smear", make, other);
}
