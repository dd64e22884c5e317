#include "moe/router/soft/mix_router.hpp"

#include <cmath>
#include <vector>

#include "moe/executor/pool.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/soft/soft_layer.hpp"
#include "moe/router/scorer/linear.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/layer_laws.hpp"
#include "support/mixing.hpp"

namespace {

using moe::Index;
using Scorer = moe::LinearScorer<double>;
using Router = moe::MixRouter<Scorer>;
using Bank = moe::Glu<moe::Silu, double>;
constexpr double kMasked = -std::numeric_limits<double>::infinity();

Router make(moe::MixWeights weights) {
  Router router(Scorer({.width = 5, .outputs = 6}), {}, {.slots_per_expert = 2, .weights = weights});
  router.scorer().initialise(1, 3);
  return router;
}

}  // namespace

TEST_CASE("both sides are softmaxes of one matrix", "[router][smoke]") {
  const auto weights =
      GENERATE(moe::MixWeights::rows_and_slots, moe::MixWeights::rows, moe::MixWeights::slots);
  const Router router = make(weights);
  constexpr Index kRows = 40;
  const std::vector<double> x = test::normal_rows(kRows, 5, 2);
  moe::RouterInput<double> in;
  in.x = moe::ConstMatrixView<double>(x.data(), kRows, 5);
  double mask[6] = {};
  mask[3] = kMasked;
  in.logit_mask = moe::ConstMatrixView<double>(mask, 1, 6);
  const moe::CallShape shape{kRows, 1};
  moe::Arena measuring;
  moe::MixTable<double>::carve(measuring, kRows, 3, router.extent(shape));
  router.measure(measuring, shape, 3);
  moe::Workspace memory;
  moe::Arena arena = memory.arena(measuring.bytes());
  auto table = moe::MixTable<double>::carve(arena, kRows, 3, router.extent(shape));
  moe::PoolExecutor pool(3);
  router.mix(in, table, arena, pool);
  REQUIRE(table.slots() == 6);
  for (Index s = 0; s < 6; ++s) {
    double sum = 0;
    for (Index r = 0; r < kRows; ++r) {
      const double d = table.dispatch_row(table.dispatch, 0, s)[r],
                   c = table.combine_row(table.combine, 0, r)[s];
      sum += d;
      if (weights != moe::MixWeights::rows_and_slots) CHECK(d == c);
    }
    if (weights != moe::MixWeights::slots) CHECK(std::abs(sum - (s == 3 ? 0 : 1)) < 1e-14);
  }
  for (Index r = 0; r < kRows && weights != moe::MixWeights::rows; ++r) {
    const double* const c = table.combine_row(table.combine, 0, r);
    CHECK(std::abs(c[0] + c[1] + c[2] + c[4] + c[5] - 1) < 1e-14);
    CHECK(c[3] == 0);
  }
}

TEST_CASE("soft routers of every kind of weights keep the laws of layers", "[router]") {
  for (const auto weights : {moe::MixWeights::rows, moe::MixWeights::slots}) {
    test::check_layer("MixRouter", [weights] {
      return moe::SoftLayer(make(weights), Bank({.experts = 3, .width = 5, .hidden = 3}));
    });
  }
}

TEST_CASE("a soft router refuses scorers, masks and options that do not fit", "[router]") {
  CHECK(test::message_of<moe::config_error>(
            [] { Router(Scorer({.width = 2, .outputs = 5}), {}, {.slots_per_expert = 2}); }) ==
        "moe: soft router: expected a scorer of a multiple of 2 outputs, the slots of an expert, got 5");
  CHECK_THROWS_AS(Router(Scorer({.width = 2, .outputs = 5}), {}, {.slots_per_expert = 0}), moe::config_error);
  const auto call = [](auto change) {
    const moe::SoftLayer layer(make(moe::MixWeights::slots), Bank({.experts = 3, .width = 5, .hidden = 3}));
    const std::vector<double> x(10, 1.0);
    std::vector<double> y(10);
    moe::LayerInput<double> in(moe::ConstMatrixView<double>(x.data(), 2, 5));
    moe::LayerOutput<double> out(moe::MatrixView<double>(y.data(), 2, 5));
    in.segments = moe::Segments::uniform(2);
    change(in);
    moe::Workspace workspace;
    layer.forward(in, out, workspace);
  };
  using In = moe::LayerInput<double>;
  CHECK_THROWS_AS(call([](In& in) { in.options.capacity_factor = 1; }), moe::config_error);
  CHECK_THROWS_AS(call([](In& in) { in.options.threshold = 1; }), moe::config_error);
  CHECK_THROWS_AS(call([](In& in) { in.options.p = 1; }), moe::config_error);
  CHECK_THROWS_AS(call([](In& in) { in.options.temperature = 1e-320; }), moe::config_error);
  const double mask[6] = {kMasked, kMasked, kMasked, kMasked, kMasked, kMasked};
  CHECK_THROWS_AS(call([&](In& in) { in.logit_mask = moe::ConstMatrixView<double>(mask, 1, 6); }),
                  moe::numeric_error);
  CHECK(test::message_of<moe::shape_error>([&] {
          call([&](In& in) { in.logit_mask = moe::ConstMatrixView<double>(mask, 1, 3); });
        }) == "moe: logit_mask: expected 6 columns, got 3");
}
