#include "moe/router/kind/competing.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/named/top_k.hpp"
#include "moe/router/score/identity.hpp"
#include "moe/router/scorer/rows.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/catch.hpp"

namespace {

using moe::Index;
using Values = std::vector<double>;
using Competition = moe::TokenChoice<moe::RowScorer<double>, moe::IdentityScore, moe::TopKSelection,
                                     moe::GatherWeighting, moe::Balancing<moe::LoadBalance>>;
using Router = moe::CompetingRouter<moe::TopKSoftmax<double>, Competition>;
static_assert(moe::TrainableRouter<Router>);

Competition competition(Index experts) {
  return {moe::RowScorer<double>(experts), moe::IdentityScore{}, moe::TopKSelection(2),
          moe::GatherWeighting({.normalise = moe::Normalise::sum}),
          moe::Balancing<moe::LoadBalance>(moe::LoadBalance{})};
}
Router router(const moe::CompetingOptions& options = {}) {
  return {moe::top_k_softmax<double>({.width = 2, .experts = 3, .k = 2}), competition(3), options};
}

}  // namespace

TEST_CASE("distillation of a row: squares, the chosen once more, divergence; derivatives by differences",
          "[compete]") {
  const Values q{0.2, 0.5, 0.3}, m{0.6, 0.4, 0};
  const bool chosen[] = {true, true, false};
  Values dq(3), dm(3);
  const auto loss = [&](const moe::DistillOptions& options, const Values& a, const Values& b) {
    return moe::impl::distill_row(options, a.data(), b.data(), chosen, 3, 2, dq.data(), dm.data());
  };
  CHECK(std::abs(loss({}, q, m) - (0.16 + 0.01 + 0.09) / 3) <= 1e-16);
  CHECK(std::abs(loss({.theta = 0.5}, q, m) - (0.16 + 0.01 + 0.09) / 3 - 0.5 * (0.16 + 0.01) / 2) <= 1e-16);
  const double divergence =
      0.2 * std::log(0.2 / 0.6) + 0.5 * std::log(0.5 / 0.4) + 0.3 * std::log(0.3 / 1e-6);
  CHECK(std::abs(loss({.divergence = true}, q, m) - divergence) <= 1e-15);
  for (const moe::DistillOptions& options :
       {moe::DistillOptions{}, moe::DistillOptions{.theta = 0.5}, moe::DistillOptions{.divergence = true}}) {
    loss(options, q, m);
    const Values of_q = dq, of_m = dm;
    for (std::size_t e = 0; e < 3; ++e) {
      const auto at = [&](double step, bool target) {
        Values a = q, b = m;
        (target ? b : a)[e] += step;
        return loss(options, a, b);
      };
      CHECK(std::abs((at(1e-7, false) - at(-1e-7, false)) / 2e-7 - of_q[e]) <= 1e-6);
      CHECK(std::abs((at(1e-7, true) - at(-1e-7, true)) / 2e-7 - of_m[e]) <= 1e-6);
    }
  }
}

TEST_CASE("a masked softmax and its backward", "[compete]") {
  const Values v{1000, 999, 5000};
  const bool in[] = {true, true, false};
  Values p(3);
  moe::impl::masked_softmax(v.data(), in, 3, p.data());
  CHECK(std::abs(p[0] - 1 / (1 + std::exp(-1.0))) <= 1e-15);
  CHECK(p[2] == 0);
  Values dp{2, 5, 100};
  moe::impl::masked_softmax_backward(p.data(), 3, dp.data());
  CHECK(std::abs(dp[0] + 3 * p[0] * p[1]) <= 1e-15);
  CHECK(std::abs(dp[0] + dp[1]) <= 1e-15);
  CHECK(dp[2] == 0);
}

TEST_CASE("CompetingRouter: when it wants probes, and a mask holds for both routers", "[compete]") {
  Router made = router({.rate = 1});
  moe::RouterInput<double> in;
  const Values rows{1, 2, 3, 4};
  in.x = moe::ConstMatrixView<double>(rows.data(), 2, 2);
  CHECK_FALSE(made.may_probe(false));
  CHECK(made.may_probe(true));
  CHECK_FALSE(made.probes(in));
  in.training = true;
  CHECK(made.probes(in));
  made.set_compete(moe::Compete::never);
  CHECK_FALSE(made.probes(in));
  CHECK_FALSE(router({.rate = 0}).may_probe(true));
  CHECK_THROWS_AS(router({.rate = 0.5}).probes(in), moe::config_error);

  moe::Workspace memory;
  moe::Arena arena = memory.arena(1 << 16);
  in.probes = moe::Probes<double>::by_expert(arena, 2, 3, 2, 8);
  for (Index i = 0; i < 6; ++i) {
    in.probes.response(i / 3, i % 3) = static_cast<double>(1 + i);
    in.probes.of(i / 3, i % 3)[0] = static_cast<double>(i), in.probes.of(i / 3, i % 3)[1] = 1;
  }
  const Values mask{0, 0, -std::numeric_limits<double>::infinity()};
  in.logit_mask = moe::ConstMatrixView<double>(mask.data(), 1, 3);
  auto table = moe::RouteTable<double>::carve(arena, 2, 3, made.max_pairs({2}));
  moe::SerialExecutor serial;
  made.route(in, table, arena, serial);
  REQUIRE(table.pairs() == 4);
  for (Index p = 0; p < 4; ++p) CHECK(table.expert[p] == (p % 2 == 0 ? 1 : 0));
  CHECK(std::isfinite(table.losses.total()));

  moe::TopKSoftmax<double> of_input = moe::top_k_softmax<double>({.width = 2, .experts = 3, .k = 2});
  of_input.set_weight_place(moe::WeightPlace::input);
  CHECK_THROWS_AS(Router(of_input, competition(3)), moe::config_error);
  CHECK_THROWS_AS(Router(moe::top_k_softmax<double>({.width = 2, .experts = 4, .k = 2}), competition(3)),
                  moe::config_error);
}
