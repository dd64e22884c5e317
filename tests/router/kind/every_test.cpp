#include "moe/router/kind/every.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "support/router_laws.hpp"

namespace {

using moe::EveryExpert;
using moe::Index;

EveryExpert<double> gated(Index experts, Index width, double scale = 1) {
  EveryExpert<double> router(experts, width, scale);
  router.visit_parameters(nullptr, [](const moe::Parameter<double>& p) {
    for (Index j = 0; j < p.value.cols; ++j) p.value(0, j) = std::cos(static_cast<double>(j));
  });
  return router;
}

}  // namespace

TEST_CASE("every active token goes to every expert, ascending, with weight 1", "[every][smoke]") {
  static_assert(moe::TrainableRouter<EveryExpert<float>>);
  const EveryExpert<double> router(3);
  CHECK(router.width() == 0);
  CHECK_FALSE(router.gated());
  test::RouterCall<double> call;
  call.tokens = 4;
  call.key = {0, 1, 2, 3};
  call.valid = moe::Buffer<bool>(4);
  call.valid.fill(true);
  call.valid[2] = false;
  const auto routed = test::route(router, call);
  for (Index t = 0; t < 4; ++t) {
    CHECK(routed.experts_of(t) ==
          (t == 2 ? std::vector<moe::ExpertId>{} : std::vector<moe::ExpertId>{0, 1, 2}));
    for (const double w : routed.weights_of(t)) CHECK(w == 1);
  }
}

TEST_CASE("with a gate all of a token's weights are sigmoid(<x, w>); a NaN gate spoils the row",
          "[every][smoke]") {
  const EveryExpert<double> router = gated(2, 3);
  test::RouterCall<double> call;
  call.tokens = 3;
  call.width = 3;
  call.key = {0, 1, 2};
  call.x = {0.5, -1, 2, 0, std::numeric_limits<double>::quiet_NaN(), 0, 1e300, 0, 0};
  const auto routed = test::route(router, call);
  CHECK(routed.experts_of(0).size() == 2);
  CHECK(routed.experts_of(1).empty());
  CHECK(routed.spoiled == std::vector<bool>{false, true, false});
  CHECK(routed.weight_of(2, 0) == 1);  // saturated, not spoiled
  const double want = 1 / (1 + std::exp(-(0.5 - std::cos(1.0) + 2 * std::cos(2.0))));
  // A dot product of 3, and an exponential within a few units.
  CHECK(std::abs(routed.weight_of(0, 0) - want) <= 16 * 0x1p-53);
  CHECK(routed.weight_of(0, 1) == routed.weight_of(0, 0));
  CHECK(test::route(gated(2, 3, 0.5), call).weight_of(0, 1) == 0.5 * routed.weight_of(0, 0));
}

TEST_CASE("a gate does not hide a row that is not finite", "[every]") {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  EveryExpert<double> router = gated(2, 3);
  for (const double bad : {kInfinity, -kInfinity, std::numeric_limits<double>::quiet_NaN()}) {
    INFO(bad);
    auto call = test::random_call<double>(4, 3, 1);
    auto without = call;
    without.valid.assign(4, true);
    without.valid[2] = false;
    call.row(2)[1] = bad;
    CHECK(test::route(router, call).spoiled == std::vector<bool>{false, false, true, false});
    CHECK(test::same_bits(test::all_gradients(router, call), test::all_gradients(router, without)));
  }
}

TEST_CASE("the laws and gradients of routers hold for every expert", "[every]") {
  EveryExpert<double> plain(3), router = gated(3, 4);
  test::check_router_laws(plain, {.masks = false});
  test::check_router_laws(router, {.masks = false});
  test::check_router_gradients(router, 5);
  EveryExpert<double> scaled = gated(3, 4, 0.5);
  test::check_router_gradients(scaled, 5);
}

TEST_CASE("the gate's name, and refusals", "[every]") {
  EveryExpert<double> router = gated(2, 3);
  int seen = 0;
  router.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) {
    CHECK(std::string(p.name) == "expert_gate.weight");
    CHECK(!p.gradient);
    CHECK(p.value.size() == 3);
    ++seen;
  });
  CHECK(seen == 1);
  CHECK_THROWS_AS(EveryExpert<double>(0), moe::config_error);
  CHECK_THROWS_AS(EveryExpert<double>(1, -1), moe::config_error);
  for (const double bad :
       {0.0, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    CHECK_THROWS_AS(EveryExpert<double>(1, 0, bad), moe::config_error);
  }
  test::RouterCall<double> call = test::random_call<double>(2, 3, 1);
  call.options.experts_per_token = 1;
  CHECK_THROWS_AS(test::route(router, call), moe::config_error);
  call.options.experts_per_token = 2;
  CHECK_NOTHROW(test::route(router, call));
  call.mask = {0, 0};
  CHECK_THROWS_AS(test::route(router, call), moe::config_error);
}
