#include "moe/router/soft/mean_slots.hpp"

#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/soft/soft_layer.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/layer_laws.hpp"
#include "support/mixing.hpp"

namespace {

using moe::Index;
using Bank = moe::Glu<moe::Silu, double>;
constexpr Index kWidth = 4;

moe::MeanSlotsOptions blocks() {
  return {.width = kWidth, .experts = 2, .slots = 3, .block = 3};
}
moe::MeanSlotsOptions whole() {
  return {.width = kWidth,
          .experts = 3,
          .block = 2,
          .blocks_mix = false,
          .weights = moe::MixWeights::rows_and_slots,
          .norm_rows = false};
}

}  // namespace

TEST_CASE("slots of means keep the laws of layers", "[router]") {
  const auto laws = [](const moe::MeanSlotsOptions& options) {
    return [options] {
      return moe::SoftLayer(moe::MeanSlots<double>(options),
                            Bank({.experts = options.experts, .width = kWidth, .hidden = 3}));
    };
  };
  auto other = blocks();
  other.slots = 2;
  test::check_layer("MeanSlots, blocks", laws(blocks()), laws(other));
  test::check_layer("MeanSlots, whole segments", laws(whole()));
}

TEST_CASE("blocks mix alone; of a whole segment every row reaches every other", "[router]") {
  const bool alone = GENERATE(true, false);
  const auto options = alone ? blocks() : whole();
  moe::MeanSlots<double> router(options);
  router.initialise(1);
  const moe::SoftLayer layer(router,
                             moe::ZeroComputation<double>({.width = kWidth, .copy = options.experts}));
  std::vector<double> x = test::normal_rows(7, kWidth, 2);
  const auto before = test::forward_rows(layer, x, {0, 7});
  x[6 * kWidth] += 1;  // the third block's only row, of blocks of 3
  const auto after = test::forward_rows(layer, x, {0, 7});
  for (std::size_t t = 0; t < 7; ++t) {
    CHECK((before[t * kWidth] == after[t * kWidth]) == (alone && t < 6));
  }
}

TEST_CASE("mean slots refuse options and rows that they cannot use", "[router]") {
  auto options = blocks();
  options.block = 0;
  CHECK(test::message_of<moe::config_error>([&] { moe::MeanSlots<double>{options}; }) ==
        "moe: rows of a mean: expected a value in [1, 2147483647], got 0");
  options = blocks();
  moe::SoftLayer layer(moe::MeanSlots<double>(options), Bank({.experts = 2, .width = kWidth, .hidden = 3}));
  layer.router().initialise(1);
  std::vector<double> x = test::normal_rows(4, kWidth, 3);
  x[5] = std::numeric_limits<double>::quiet_NaN();
  CHECK(test::message_of<moe::numeric_error>([&] {
          test::forward_rows(layer, x, {0, 4});
        }) ==
        "moe: x (read by the router): expected finite values, got others for token 1; NonFinite::isolate_row "
        "confines it to its row");
  options.non_finite = moe::NonFinite::isolate_row;
  moe::SoftLayer isolating(moe::MeanSlots<double>(options),
                           Bank({.experts = 2, .width = kWidth, .hidden = 3}));
  isolating.router().initialise(1);
  const auto y = test::forward_rows(isolating, x, {0, 4});
  CHECK(std::isnan(y[kWidth]));
  CHECK(std::isfinite(y[0]));
  CHECK_THROWS_AS(
      [&] {
        std::vector<double> out(x.size());
        moe::LayerInput<double> in(moe::ConstMatrixView<double>(x.data(), 4, kWidth));
        in.segments = moe::Segments::uniform(4);
        in.options.temperature = 2;
        moe::LayerOutput<double> to(moe::MatrixView<double>(out.data(), 4, kWidth));
        moe::Workspace workspace;
        isolating.forward(in, to, workspace);
      }(),
      moe::config_error);
}
