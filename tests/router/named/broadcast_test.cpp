#include "moe/router/named/broadcast.hpp"

#include <cmath>
#include <limits>

#include "moe/router/named/top_k.hpp"
#include "moe/router/selection/broadcast.hpp"
#include "moe/router/selection/concept.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::ExpertId;
using moe::Index;
using test::near;

namespace {

using Ids = std::vector<ExpertId>;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

auto top_p(moe::BroadcastTopPOptions options, Index experts = 4) {
  options.width = options.experts = experts;
  auto router = moe::broadcast_top_p<double>(options);
  test::set_parameter(router, "gate.weight", test::identity(experts));
  return router;
}
auto top_k(moe::BroadcastTopKOptions options, Index experts = 4) {
  options.width = options.experts = experts;
  auto router = moe::broadcast_top_k<double>(options);
  test::set_parameter(router, "gate.weight", test::identity(experts));
  return router;
}

const test::RouterCases kCases{
    {"BroadcastTopP",
     [] {
       return moe::broadcast_top_p<double>(
           {.width = 4, .experts = 6, .threshold = 0.94, .entropy = 0.4, .load_balance = 0.3});
     }},
    {"BroadcastTopK",
     [] {
       return moe::broadcast_top_k<double>(
           {.width = 4, .experts = 6, .threshold = 1.65, .load_balance = 0.3});
     }},
};

}  // namespace

TEST_CASE("a broadcast is a selection around another", "[router]") {
  STATIC_REQUIRE(moe::Selection<moe::BroadcastUncertain<moe::TopKSelection>>);
  const moe::BroadcastUncertain<moe::TopKSelection> two(moe::TopKSelection(2), {});
  CHECK(two.inner().k() == 2);
  CHECK(two.most({}, 6) == 6);
}

TEST_CASE("uncertain rows go to all, the others by top-p: against plain loops", "[router]") {
  auto call = test::random_call<double>(200, 4, 7);
  for (double& v : call.x) v *= 1.5;
  call.training = true;
  const auto router = top_p({.entropy = 0.7, .load_balance = 0.2});
  const auto routed = test::route(router, call);
  Index broadcast = 0;
  double entropies = 0;
  test::Matrix rows;
  std::vector<Ids> chosen;
  for (Index t = 0; t < 200; ++t) {
    const test::Vector p = test::softmax({call.row(t), call.row(t) + 4});
    double powers = 0;
    for (const double v : p) powers += std::pow(v, 1.1);
    const double fraction = (1 - powers) / (1 - std::pow(4.0, -0.1));  // over its largest
    entropies += fraction;
    Ids ids = test::best(p, 4);
    if (fraction > 0.9) {
      ++broadcast;
    } else {
      std::size_t count = 0;
      for (double sum = 0; count < 4; ++count) {
        sum += p[static_cast<std::size_t>(ids[count])];
        if (sum > 0.75) break;
      }
      ids.resize(std::max<std::size_t>(count, 2));
    }
    test::Vector weights;
    for (const ExpertId e : ids) weights.push_back(p[static_cast<std::size_t>(e)]);
    test::check_pairs(routed, t, ids, weights);
    rows.push_back(p);
    chosen.push_back(ids);
  }
  CHECK((broadcast > 20 && broadcast < 180));
  CHECK(near(test::loss_of(routed, "entropy"), 0.7 * entropies / 200));
  CHECK(near(test::loss_of(routed, "load_balance"), 0.2 * test::load_balance(test::counts(chosen, 4), rows)));
  call.training = false;
  CHECK(test::same_pairs(routed, test::route(router, call)));
}

TEST_CASE("uniform rows are broadcast, and with a threshold of 1 none is", "[router]") {
  auto call = test::call_of({{2, 2, 2, 2}, {9, 0, 0, 0}});
  CHECK(test::route(top_p({}), call).experts_of(0) == Ids{0, 1, 2, 3});
  CHECK(test::route(top_p({}), call).experts_of(1) == Ids{0, 1});
  CHECK(test::route(top_p({.threshold = 1}), call).experts_of(0) == Ids{0, 1, 2});
  // The largest entropy is that of the open experts.
  call.mask = {0, -kInfinity, -kInfinity, 0};
  CHECK(test::route(top_p({.least = 1}), call).experts_of(0) == Ids{0, 3});
  call.mask = {0, -kInfinity, -kInfinity, -kInfinity};
  CHECK(test::route(top_p({}), call).experts_of(0) == Ids{0});
}

TEST_CASE("in training, uncertain rows get the mean of all experts; inference is the base router",
          "[router]") {
  moe::TopKSoftmax<double> base = moe::top_k_softmax<double>({.width = 8, .experts = 8, .k = 2});
  test::set_parameter(base, "gate.weight", test::identity(8));
  const auto router = top_k({}, 8);
  auto call = test::random_call<double>(40, 8, 4);
  for (Index t = 0; t < 40; ++t) {
    for (Index e = 0; e < 8; ++e) call.row(t)[e] = t % 2 == 0 ? 1.0 : 6 * call.row(t)[e];
  }
  CHECK(test::same_pairs(test::route(router, call), test::route(base, call)));
  call.training = true;
  const auto routed = test::route(router, call), sure = test::route(base, call);
  for (Index t = 0; t < 40; ++t) {
    const auto p = test::softmax({call.row(t), call.row(t) + 8});
    double entropy = 0;
    for (const double v : p) entropy -= v * std::log(v);
    if (t % 2 == 0) {
      test::check_pairs(routed, t, {0, 1, 2, 3, 4, 5, 6, 7}, test::Vector(8, 0.125));
    } else if (entropy < 1.8) {
      CHECK(test::same_row(routed, t, sure, t));
    }
  }
  CHECK(test::same_pairs(test::route(top_k({.threshold = 2.1}, 8), call), sure));  // ln 8 = 2.079
}

TEST_CASE("options of broadcasts are checked", "[router]") {
  CHECK_THROWS_WITH(top_p({.threshold = -1}), "moe: entropy threshold: expected a finite value >= 0, got -1");
  CHECK_THROWS_AS(top_p({.threshold = std::numeric_limits<double>::quiet_NaN()}), moe::config_error);
  CHECK_THROWS_AS(top_p({.order = 0}), moe::config_error);
  CHECK_THROWS_AS(top_p({.p = 0}), moe::config_error);
  CHECK_THROWS_AS(top_p({.least = 5}), moe::config_error);
  CHECK_THROWS_AS(top_k({.k = 9}), moe::config_error);
  auto call = test::call_of({{1, 2, 3, 4}});
  call.options.experts_per_token = 5;  // what the inner selection refuses
  CHECK_THROWS_AS(test::route(top_k({}), call), moe::config_error);
  call.options = {.p = 0.5};
  CHECK_THROWS_AS(test::route(top_k({}), call), moe::config_error);
}
