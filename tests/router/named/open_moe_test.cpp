#include "moe/router/named/open_moe.hpp"

#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::ExpertId;
using moe::Index;

namespace {

const test::RouterCases kCases{
    {"open_moe", [] { return moe::open_moe<double>({.width = 4, .experts = 5, .z_loss = 0.2}); }},
};

}  // namespace

TEST_CASE("OpenMoE takes the two best, its weights sum to 1, its losses are ST-MoE's", "[router]") {
  auto router = moe::open_moe<double>({.width = 4, .experts = 4, .load_balance = 0.5, .z_loss = 0.25});
  test::set_parameter(router, "gate.weight", test::identity(4));
  auto call = test::random_call<double>(12, 4, 3);
  call.training = true;
  const auto logit = test::linear(test::identity(4), call);
  const auto routed = test::route(router, call);
  test::Matrix probability;
  std::vector<std::vector<ExpertId>> chosen;
  double z = 0;
  for (Index t = 0; t < 12; ++t) {
    const auto& row = logit[static_cast<std::size_t>(t)];
    probability.push_back(test::softmax(row));
    chosen.push_back(test::best(row, 2));
    const double first = probability.back()[static_cast<std::size_t>(chosen.back()[0])];
    const double second = probability.back()[static_cast<std::size_t>(chosen.back()[1])];
    test::check_pairs(routed, t, chosen.back(), {first / (first + second), second / (first + second)});
    double sum = 0;
    for (const double l : row) sum += std::exp(l);
    z += std::log(sum) * std::log(sum) / 12;
  }
  CHECK(test::near(test::loss_of(routed, "load_balance"),
                   0.5 * test::load_balance(test::counts(chosen, 4), probability)));
  CHECK(test::near(test::loss_of(routed, "z_loss"), 0.25 * z));
}

TEST_CASE("OpenMoE's capacities", "[router]") {
  CHECK(moe::open_moe_capacity(true).of(64, 8) == 10);
  CHECK(moe::open_moe_capacity(false).of(64, 8) == 16);
  CHECK_THROWS_AS(moe::open_moe<double>({.width = 4, .experts = 1}), moe::config_error);
}
