#include "moe/router/named/remix.hpp"

#include <cmath>
#include <utility>
#include <vector>

#include "moe/train/rloo.hpp"
#include "support/one_row.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::ExpertId;
using moe::Index;
using test::near;
using test::Vector;

namespace {

const test::RouterCases kCases{
    {"RemixRouter", [] { return moe::remix_router<double>({.width = 4, .experts = 5}); }},
};

moe::RemixRouter<double> of_rows(Index experts, Index k) {
  auto router = moe::remix_router<double>({.width = experts, .experts = experts, .k = k});
  test::set_parameter(router, "gate.weight", test::identity(experts));
  return router;
}

/// Every ordered draw of two of three: what it costs, its probability, and the gradient of that by the
/// product rule: Q = p_a p_b / (1 - p_a).
struct Draw {
  ExpertId ids[2];
  double cost, q;
  Vector dq;
};
std::vector<Draw> draws(const Vector& logit) {
  const Vector p = test::softmax(logit);
  std::vector<Draw> all;
  for (ExpertId a = 0; a < 3; ++a) {
    for (ExpertId b = 0; b < 3; ++b) {
      if (a == b) continue;
      const double pa = p[static_cast<std::size_t>(a)], pb = p[static_cast<std::size_t>(b)];
      Draw one{{a, b}, 1 + 2.5 * a * a - 3 * b + 0.7 * a * b, pa * pb / (1 - pa), {}};
      for (ExpertId i = 0; i < 3; ++i) {
        const double pi = p[static_cast<std::size_t>(i)];
        const double dpa = pa * ((i == a ? 1 : 0) - pi), dpb = pb * ((i == b ? 1 : 0) - pi);
        one.dq.push_back(dpa * pb / (1 - pa) + pa * dpb / (1 - pa) + pa * pb * dpa / ((1 - pa) * (1 - pa)));
      }
      all.push_back(std::move(one));
    }
  }
  return all;
}

}  // namespace

TEST_CASE("two samples and their leave-one-out baselines: the gradient of the mean cost", "[router]") {
  const Vector logit{0.4, -0.3, 1.1};
  auto router = of_rows(3, 2);
  const auto row = test::one_row<double>(logit.data(), nullptr, 3);
  Vector want(3, 0), mean(3, 0);
  const auto all = draws(logit);
  double total = 0;
  for (const Draw& one : all) {
    total += one.q;
    for (std::size_t i = 0; i < 3; ++i) want[i] += one.cost * one.dq[i];
    CHECK(near(std::exp(router.selection().log_probability(row, {one.ids, 2})), one.q));
  }
  CHECK(near(total, 1));
  for (const Draw& first : all) {
    for (const Draw& second : all) {
      const double loss[] = {first.cost, second.cost};
      double advantage[2];
      moe::rloo({loss, 2, 1}, {advantage, 2, 1});
      Vector g(3, 0);
      router.selection().log_probability_backward(row, {first.ids, 2}, advantage[0], g.data());
      router.selection().log_probability_backward(row, {second.ids, 2}, advantage[1], g.data());
      for (std::size_t i = 0; i < 3; ++i) mean[i] += first.q * second.q * g[i];
    }
  }
  for (std::size_t i = 0; i < 3; ++i) CHECK(near(mean[i], want[i]));
}

TEST_CASE("a baseline that is not the sample's own changes no mean", "[router]") {
  const Vector logit{0.4, -0.3, 1.1};
  auto router = of_rows(3, 2);
  const auto row = test::one_row<double>(logit.data(), nullptr, 3);
  for (const double baseline : {0.0, -7.0}) {
    Vector mean(3, 0), want(3, 0);
    for (const Draw& one : draws(logit)) {
      router.selection().log_probability_backward(row, {one.ids, 2}, one.q * (one.cost - baseline),
                                                  mean.data());
      for (std::size_t i = 0; i < 3; ++i) want[i] += one.cost * one.dq[i];
    }
    for (std::size_t i = 0; i < 3; ++i) CHECK(near(mean[i], want[i]));
  }
}

TEST_CASE("weights are 1 / k and train nothing; inference takes the most probable", "[router]") {
  const auto router = of_rows(4, 2);
  auto call = test::call_of({{0.1, 0.7, -1, 0.5}});
  test::check_pairs(test::route(router, call), 0, {1, 3}, {0.5, 0.5});
  call.options.experts_per_token = 3;
  test::check_pairs(test::route(router, call), 0, {1, 3, 0}, {1.0 / 3, 1.0 / 3, 1.0 / 3});
  call.training = true;
  auto trained = of_rows(4, 2);
  for (const double g : test::all_gradients(trained, call)) CHECK(g == 0);
}

TEST_CASE("options of ReMix are checked", "[router]") {
  CHECK_THROWS_AS(of_rows(3, 0), moe::config_error);
  CHECK_THROWS_AS(of_rows(3, 4), moe::config_error);
}
