#include "moe/depth/adapter_block.hpp"

#include <cmath>

#include "moe/depth/depth_layer.hpp"
#include "moe/kernel/activation_policy.hpp"
#include "moe/router/kind/every.hpp"
#include "support/catch.hpp"
#include "support/depth_call.hpp"
#include "support/layer_laws.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::Index;
using Block = moe::AdapterBlock<moe::Silu, double>;
using Layer = moe::DepthLayer<moe::EveryExpert<double>, Block>;
static_assert(moe::TrainableRowBlock<Block>);
static_assert(Layer::coupling(true) == moe::Coupling::row_independent);

Layer layer(moe::AdapterOptions options) {
  return Layer(moe::EveryExpert<double>(1), Block(options));
}

}  // namespace

TEST_CASE("adapters keep the laws of layers, in rows of their own", "[depth]") {
  test::check_layer(
      "normed", [] { return layer({.width = 5, .hidden = 3, .norm = true}); },
      [] { return layer({.width = 5, .hidden = 4, .norm = true}); });
  test::check_layer(
      "biased", [] { return layer({.width = 4, .hidden = 6, .bias = true}); },
      [] { return layer({.width = 4, .hidden = 6}); });
}

TEST_CASE("an adapter is nothing at first, and refuses options that do not fit", "[depth]") {
  Layer made = layer({.width = 5, .hidden = 3, .norm = true});
  made.block().initialise(3);
  test::DepthCall call(4, 5, {0, 4});
  call.forward(made);
  CHECK(test::same_bits(call.y, call.x));
  made.block().initialise(3, true);
  call.forward(made);
  CHECK(call.y != call.x);
  CHECK_THROWS_AS(Block({.width = 0, .hidden = 1}), moe::config_error);
  CHECK_THROWS_AS(Block({.width = 1, .hidden = 0}), moe::config_error);
  CHECK_THROWS_AS(Block({.width = 1, .hidden = 1, .norm = true, .eps = -1}), moe::config_error);
  CHECK_THROWS_AS(Block({.width = 1, .hidden = 1, .norm = true, .eps = std::nan("")}), moe::config_error);
}
