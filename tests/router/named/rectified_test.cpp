#include "moe/router/named/rectified.hpp"

#include <limits>

#include "moe/router/named/top_k.hpp"
#include "moe/router/selection/concept.hpp"
#include "moe/router/selection/rectified_top_k.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::ExpertId;
using moe::Index;
using test::near;

namespace {

auto of_rows(moe::RectifiedOptions options, Index experts) {
  options.width = options.experts = experts;
  auto router = moe::rectified_router<double>(options);
  test::set_parameter(router, "gate.weight", test::identity(experts));
  return router;
}
std::vector<Index> loads(const test::Routed<double>& routed, Index experts) {
  std::vector<Index> load(static_cast<std::size_t>(experts), 0);
  for (const ExpertId e : routed.expert) ++load[static_cast<std::size_t>(e)];
  return load;
}

const test::RouterCases kCases{
    // A row of zeros may end with any expert.
    {"RectifiedRouter",
     [] {
       return moe::rectified_router<double>(
           {.width = 4, .experts = 6, .k = 2, .capacity_factor = 0.8, .groups = 2, .load_balance = 0.3});
     },
     {.laws = {.padding = false}, .ties = false, .segments = true}},  // padding: a group is a row's place
    {"RectifiedRouter, filled in alone",
     [] { return moe::rectified_router<double>({.width = 4, .experts = 4, .reroute = false}); },
     {.ties = false, .segments = true}},
    {"RectifiedRouter, rerouted alone",
     [] {
       return moe::rectified_router<double>(
           {.width = 4, .experts = 4, .capacity_factor = 0.5, .fill_in = false});
     },
     {.ties = false, .segments = true}},
};

}  // namespace

TEST_CASE("rectification by hand: lost, filled in, rerouted", "[router]") {
  // One place each (ceil(4 / 4)). All four rows prefer expert 0; row 2 wins it.
  const auto call = test::call_of(test::logs(
      {{0.5, 0.3, 0.15, 0.05}, {0.6, 0.2, 0.12, 0.08}, {0.7, 0.01, 0.09, 0.2}, {0.4, 0.35, 0.05, 0.2}}));
  const auto dropped = test::route(of_rows({.fill_in = false, .reroute = false}, 4), call);
  test::check_pairs(dropped, 0, {}, {});
  test::check_pairs(dropped, 2, {0}, {0.7});
  CHECK(dropped.pairs() == 1);
  // Second choices: 1 of rows 0, 1, 3 goes to row 3; 3 of row 2. Third ones: 2 of rows 0, 1: to row 0.
  const auto filled = test::route(of_rows({.reroute = false}, 4), call);
  test::check_pairs(filled, 0, {2}, {0.15});
  test::check_pairs(filled, 1, {}, {});
  test::check_pairs(filled, 2, {0, 3}, {0.7, 0.2});
  test::check_pairs(filled, 3, {1}, {0.35});
  CHECK(loads(filled, 4) == std::vector<Index>{1, 1, 1, 1});
  // Row 1 goes to the best of its group: of experts 0 and 1, and beyond expert 0's place.
  const auto both = test::route(of_rows({.groups = 2}, 4), call);
  test::check_pairs(both, 1, {0}, {0.6});
  // Without fill-in rows 0, 1 of the first group and row 3 of the second.
  const auto rerouted = test::route(of_rows({.groups = 2, .fill_in = false}, 4), call);
  test::check_pairs(rerouted, 0, {0}, {0.5});
  test::check_pairs(rerouted, 1, {0}, {0.6});
  test::check_pairs(rerouted, 3, {3}, {0.2});
}

TEST_CASE("C = ceil(factor K T / N), no more than the rows", "[router]") {
  STATIC_REQUIRE(moe::SetSelection<moe::RectifiedTopK>);
  CHECK(moe::RectifiedTopK::capacity(8, 1, 1, 4) == 2);
  CHECK(moe::RectifiedTopK::capacity(9, 2, 0.5, 4) == 3);
  CHECK(moe::RectifiedTopK::capacity(3, 2, 100, 4) == 3);
  CHECK(moe::RectifiedTopK::capacity(0, 2, 1, 4) == 0);
}

TEST_CASE("no row is lost, and every place is taken", "[router]") {
  for (const Index k : {1, 2, 3}) {
    INFO("k = " << k);
    const auto call = test::random_call<double>(60, 5, 3);
    const auto routed = test::route(of_rows({.k = k, .groups = 5}, 5), call);
    for (Index t = 0; t < 60; ++t) CHECK(static_cast<Index>(routed.experts_of(t).size()) >= 1);
    for (const Index load : loads(routed, 5)) CHECK(load >= 60 * k / 5);
    const auto all = test::route(of_rows({.k = k}, 5), call);
    for (Index t = 0; t < 60; ++t) CHECK(static_cast<Index>(all.experts_of(t).size()) >= k);
  }
}

TEST_CASE("a large capacity without fill-in is a plain top-k", "[router]") {
  auto base = moe::softmax_top_k<double>({.width = 5, .experts = 5, .k = 2});
  test::set_parameter(base, "gate.weight", test::identity(5));
  auto call = test::random_call<double>(30, 5, 4);
  CHECK(test::same_pairs(test::route(of_rows({.k = 2, .capacity_factor = 5, .fill_in = false}, 5), call),
                         test::route(base, call)));
  call.options = {.experts_per_token = 2, .capacity_factor = 5};
  CHECK(test::same_pairs(test::route(of_rows({.fill_in = false}, 5), call),
                         test::route(of_rows({.k = 2, .capacity_factor = 5, .fill_in = false}, 5),
                                     test::random_call<double>(30, 5, 4))));
}

TEST_CASE("the balance loss sees what rows wanted, not what they got", "[router]") {
  auto call = test::call_of(test::Matrix(8, test::Vector{2, 1, 0, 0}));
  call.training = true;
  const auto routed = test::route(of_rows({.reroute = false, .load_balance = 0.5}, 4), call);
  CHECK(loads(routed, 4)[0] == 2);
  CHECK(near(test::loss_of(routed, "load_balance"), 0.5 * 4 * test::softmax({2, 1, 0, 0})[0]));
}

TEST_CASE("options of rectified routing are checked", "[router]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(of_rows({.k = 0}, 4), moe::config_error);
  CHECK_THROWS_AS(of_rows({.k = 5}, 4), moe::config_error);
  CHECK_THROWS_WITH(of_rows({.groups = 3}, 4), "moe: groups: expected a divisor of the 4 outputs, got 3");
  for (const double factor : {0.0, -1.0, nan, 2e9}) {
    CHECK_THROWS_AS(of_rows({.capacity_factor = factor}, 4), moe::config_error);
  }
  auto call = test::call_of({{1, 2, 3, 4}});
  call.options = {.p = 0.5};
  CHECK_THROWS_AS(test::route(of_rows({}, 4), call), moe::config_error);
  call.options = {.capacity_factor = -2};
  CHECK_THROWS_WITH(test::route(of_rows({}, 4), call),
                    "moe: capacity factor: expected a value in (0, 1e9], got -2");
}
