#include "moe/router/named/base.hpp"

#include <cmath>
#include <limits>

#include "support/exact_assignment.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::Coupling;
using moe::ExpertId;
using moe::Index;
using test::near;

namespace {

auto of_rows(Index experts, double tolerance = 1e-3) {
  auto router = moe::base_router<double>({.width = experts, .experts = experts, .tolerance = tolerance});
  test::set_parameter(router, "gate.weight", test::identity(experts));
  return router;
}
test::RouterCall<double> training(test::RouterCall<double> call) {
  call.training = true;
  return call;
}
double sigmoid(double v) {
  return 1 / (1 + std::exp(-v));
}

const test::RouterCases kCases{
    {"BaseRouter", [] { return moe::base_router<double>({.width = 4, .experts = 5}); }, {.step = 1e-4}},
    {"BaseRouter, more experts than rows",
     [] { return moe::base_router<double>({.width = 3, .experts = 8}); },
     {.step = 1e-4}},
    {"BaseRouter, float", [] { return moe::base_router<float>({.width = 4, .experts = 3}); }},
};

}  // namespace

TEST_CASE("a balanced assignment by hand: all rows want expert 0, the weight is the logit's sigmoid",
          "[router]") {
  const auto call = test::call_of({{3, 1}, {3, 2.5}, {3, -1}, {3, 2}});
  const auto routed = test::route(of_rows(2), training(call));
  test::check_pairs(routed, 0, {0}, {sigmoid(3)});
  test::check_pairs(routed, 1, {1}, {sigmoid(2.5)});
  test::check_pairs(routed, 2, {0}, {sigmoid(3)});
  test::check_pairs(routed, 3, {1}, {sigmoid(2)});
  CHECK(routed.losses.empty());
  const auto greedy = test::route(of_rows(2), call);
  for (Index t = 0; t < 4; ++t) test::check_pairs(greedy, t, {0}, {sigmoid(3)});
}

TEST_CASE("it couples the batch in training and no rows in inference, which the compiler knows", "[router]") {
  STATIC_REQUIRE(moe::BaseRouter<float>::coupling(true) == Coupling::per_batch);
  STATIC_REQUIRE(moe::BaseRouter<float>::coupling(false) == Coupling::row_independent);
  // Over the batch whatever its segments: the rows of one want expert 0, those of the other expert 1.
  test::Matrix rows(4, test::Vector{1, 0});
  rows.resize(8, test::Vector{0, 1});
  auto call = training(test::call_of(rows));
  call.segments = {0, 4, 8};
  const auto routed = test::route(of_rows(2), call);
  for (Index t = 0; t < 8; ++t) CHECK(routed.experts_of(t) == std::vector<ExpertId>{t < 4 ? 0 : 1});
}

TEST_CASE("every expert has T/N rows, or T/N rounded, and the sum is within T eps of the greatest",
          "[router]") {
  for (const Index tokens : {1, 4, 24, 30, 31, 60}) {
    INFO(tokens << " rows");
    auto call = training(test::random_call<double>(tokens + 2, 6, 9));
    call.valid.assign(tokens + 2, true);
    call.valid[0] = call.valid[tokens] = false;  // padding counts for nothing
    const auto routed = test::route(of_rows(6), call);
    std::vector<Index> load(6, 0);
    test::Matrix value;
    double sum = 0;
    for (Index t = 0; t < call.tokens; ++t) {
      if (!call.valid[t]) continue;
      value.emplace_back(call.row(t), call.row(t) + 6);
      ++load[static_cast<std::size_t>(routed.experts_of(t).at(0))];
      sum += value.back()[static_cast<std::size_t>(routed.experts_of(t)[0])];
    }
    for (const Index rows : load) CHECK((rows == tokens / 6 || rows == (tokens + 5) / 6));
    const double best = test::assignment_value(value, test::exact_assignment(value));
    CHECK((sum <= best + 1e-12 && sum >= best - static_cast<double>(tokens) * 1e-3 * 2));
  }
}

TEST_CASE("only the chosen expert's logit learns", "[router]") {
  auto router = of_rows(3);
  const auto call = training(test::call_of({{1, 0, 2}, {0.5, 0.2, 1}, {0, 1, 3}}));
  moe::BaseRouter<double>::Tape tape;
  test::OwnedTable<double> table(router, call.shape());
  const auto routed = test::route_train(router, call, table, tape);
  const auto dx = test::backward(router, call, table, tape, {1, 1, 1}, 1, nullptr);
  for (Index t = 0; t < 3; ++t) {
    for (Index e = 0; e < 3; ++e) {
      const double s = sigmoid(call.x[static_cast<std::size_t>(t * 3 + e)]);
      CHECK(near(dx[static_cast<std::size_t>(t * 3 + e)], routed.experts_of(t)[0] == e ? s * (1 - s) : 0.0));
    }
  }
}

TEST_CASE("options of BASE routing are checked", "[router]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double bad : {0.0, -1.0, 1.5, nan}) CHECK_THROWS_AS(of_rows(4, bad), moe::config_error);
  auto call = test::call_of({{1, 2, 3, 4}});
  call.options.experts_per_token = 2;
  CHECK_THROWS_WITH(test::route(of_rows(4), call),
                    "moe: experts per token: expected K = 1 (an assignment gives a row one expert), got 2");
  call.options.experts_per_token = 1;
  CHECK_NOTHROW(test::route(of_rows(4), call));
}
