#include "moe/router/named/moe_plus_plus.hpp"

#include "moe/router/weighting/moe_plus_plus.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::ExpertId;
using moe::Index;
using moe::MoePlusPlusWeights;
using test::near;

namespace {

/// Ids: ffn 0, 1; constant 2; copy 3; zero 4.
moe::MoePlusPlusOptions options_of(MoePlusPlusWeights weights) {
  return {.width = 5, .ffn = 2, .constants = 1, .load_balance = 0.3, .z_loss = 0.1, .weights = weights};
}

constexpr MoePlusPlusWeights kAll[] = {MoePlusPlusWeights::probability, MoePlusPlusWeights::shares,
                                       MoePlusPlusWeights::shares_without_zeros};

const test::RouterCases kCases{
    {"MoePlusPlusRouter", [] { return moe::moe_plus_plus_router<double>(options_of(kAll[0])); }},
    {"MoePlusPlusRouter, shares", [] { return moe::moe_plus_plus_router<double>(options_of(kAll[1])); }},
    {"MoePlusPlusRouter, residual",
     [] {
       auto options = options_of(kAll[0]);
       options.residual = true;
       return moe::moe_plus_plus_router<double>(options);
     }},
    {"MoePlusPlusRouter, shares without zeros",
     [] { return moe::moe_plus_plus_router<double>(options_of(kAll[2])); }},
};

}  // namespace

TEST_CASE("MoE++ by hand: a token on copy and zero", "[router]") {
  const auto call = test::call_of(test::logs({{0.05, 0.05, 0.1, 0.4, 0.4}, {0.1, 0.1, 0.1, 0.1, 0.6}}));
  const std::vector<test::Vector> expected{{0.4, 0.4}, {0.5, 0.5}, {1, 0}};
  for (std::size_t i = 0; i < 3; ++i) {
    auto router = moe::moe_plus_plus_router<double>(options_of(kAll[i]));
    CHECK(router.experts() == 5);
    test::set_parameter(router, "gate.weight", test::identity(5));
    const auto routed = test::route(router, call);
    test::check_pairs(routed, 0, {3, 4}, expected[i]);
    CHECK(routed.elided == 0);  // zero experts are experts of the bank
    CHECK(routed.experts_of(1) == std::vector<ExpertId>{4, 0});
  }
  // All on zero experts: no weight to share.
  auto options = options_of(MoePlusPlusWeights::shares_without_zeros);
  options.k = 1;
  auto router = moe::moe_plus_plus_router<double>(options);
  test::set_parameter(router, "gate.weight", test::identity(5));
  test::check_pairs(test::route(router, call), 1, {4}, {0});
}

TEST_CASE("MoE++ with a gating residual that is 0 is the router without, bit for bit", "[router]") {
  auto options = options_of(kAll[2]);
  auto plain = moe::moe_plus_plus_router<double>(options);
  options.residual = true;
  auto residual = moe::moe_plus_plus_router<double>(options);
  CHECK((plain.carry_width() == 0 && residual.carry_width() == 5));
  test::randomise(plain, 2);
  test::set_parameter(residual, "gate.weight", test::parameter(plain, "gate.weight"));
  auto call = test::random_call<double>(20, 5, 4);
  test::add_carry(call, 5);
  call.training = true;
  const auto without = test::route(plain, call);
  CHECK(test::same_route(test::route(residual, call), without));
  test::set_parameter(residual, "gate_map.weight", test::identity(5));
  CHECK(!test::same_route(test::route(residual, call), without));
}

TEST_CASE("MoE++ agrees with plain loops; cheap experts weigh tau in the loss", "[router]") {
  for (const MoePlusPlusWeights weights : kAll) {
    for (const double tau : {0.75, 0.1}) {
      auto options = options_of(weights);
      options.tau = tau;
      auto router = moe::moe_plus_plus_router<double>(options);
      test::randomise(router, 2);
      auto call = test::random_call<double>(20, 5, 4);
      call.training = true;
      const auto routed = test::route(router, call);
      test::Matrix p;
      std::vector<std::vector<ExpertId>> chosen;
      for (const test::Vector& logit : test::linear(test::parameter(router, "gate.weight"), call)) {
        p.push_back(test::softmax(logit));
        chosen.push_back(test::best(p.back(), 2));
        test::Vector w;
        for (const ExpertId e : chosen.back()) {
          const bool out = weights == MoePlusPlusWeights::shares_without_zeros && e == 4;
          w.push_back(out ? 0.0 : p.back()[static_cast<std::size_t>(e)]);
        }
        const double sum = test::total(w);
        for (double& v : w) v = weights == MoePlusPlusWeights::probability ? v : v / sum;
        test::check_pairs(routed, static_cast<Index>(p.size()) - 1, chosen.back(), w);
      }
      test::Vector count = test::counts(chosen, 5);
      const double all = test::total(count);
      const test::Vector mean = test::column_means(p);
      double loss = 0;
      for (std::size_t e = 0; e < 5; ++e) loss += (e < 2 ? 1.0 : tau) * count[e] / all * mean[e] * 5;
      CHECK(near(test::loss_of(routed, "load_balance"), 0.3 * loss));
    }
  }
}

TEST_CASE("options of MoE++ are checked", "[router]") {
  const auto rejects = [](moe::MoePlusPlusOptions options) {
    CHECK_THROWS_AS(moe::moe_plus_plus_router<double>(options), moe::config_error);
  };
  rejects({.width = 4, .ffn = 0});
  rejects({.width = 4, .ffn = 2, .constants = -1});
  rejects({.width = 4, .ffn = 2, .copies = -1});
  rejects({.width = 4, .ffn = 2, .zeros = -1});
  rejects({.width = 4, .ffn = 2, .k = 5});
  rejects({.width = 4, .ffn = 2, .tau = 0});
  rejects({.width = 4, .ffn = 2, .tau = std::numeric_limits<double>::quiet_NaN()});
}
