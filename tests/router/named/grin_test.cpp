#include "moe/router/named/grin.hpp"

#include <array>
#include <cmath>
#include <map>
#include <vector>

#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/sparse_mixer.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::ExpertId;
using moe::Index;
using test::near;
using test::Vector;

namespace {

using Router = moe::GrinRouter<double>;

/// Logits are the rows.
Router of_rows(Index experts, Index k, double eps) {
  Router router =
      moe::grin_router<double>({.width = experts, .experts = experts, .k = k, .eps = eps, .load_balance = 0});
  test::set_parameter(router, "gate.weight", test::identity(experts));
  return router;
}

const test::RouterCases kCases{
    {"GrinRouter",
     [] { return moe::grin_router<double>({.width = 4, .experts = 5, .eps = 0.3, .load_balance = 0.4}); },
     {.estimator = true}},
    {"GrinRouter, one choice of all",
     [] { return moe::grin_router<double>({.width = 4, .experts = 5, .k = 1, .eps = 1e6}); },
     {.estimator = true}},
};

/// One outcome of a row's draws: choices and which of them weigh a third; what it gives, and how likely it
/// is.
struct Outcome {
  std::vector<ExpertId> ids;
  Vector weight, dlogit;
  double probability;
};

/// A softmax over the outputs that are near the best of those not gone.
Vector near_shares(const Vector& logit, const std::vector<ExpertId>& gone, double eps) {
  Vector rest = logit;
  for (const ExpertId e : gone) rest[static_cast<std::size_t>(e)] = -HUGE_VAL;
  const double top = *std::max_element(rest.begin(), rest.end());
  for (double& h : rest) {
    if ((top - h) / std::max(std::abs(h), top) > 2 * eps) h = -HUGE_VAL;
  }
  return test::softmax(rest);
}

/// All outcomes of a row, with the gradient of the loss: dloss(expert, weight) is dL / d weight. The router
/// makes them, row key by row key; their probabilities are formulas.
template <class F>
std::vector<Outcome> outcomes(const Router& router, const Vector& logit, Index k, double eps,
                              const F& dloss) {
  std::map<std::vector<int>, Outcome> seen;
  auto call = test::call_of({logit});
  call.training = true;
  double all = 0;
  for (std::uint64_t key = 0; key < 20000 && all < 1 - 1e-9; ++key) {
    call.key[0] = key;
    typename Router::Tape tape;
    test::OwnedTable<double> table(router, call.shape());
    const auto routed = test::route_train(router, call, table, tape);
    Outcome one{routed.experts_of(0), routed.weights_of(0), {}, 1};
    std::vector<int> name;
    Vector dweight;
    for (std::size_t i = 0; i < one.ids.size(); ++i) {
      const auto e = static_cast<std::size_t>(one.ids[i]);
      const Vector p = near_shares(logit, {one.ids.begin(), one.ids.begin() + static_cast<Index>(i)}, eps);
      const bool best = p[e] == *std::max_element(p.begin(), p.end()), whole = near(one.weight[i], p[e]);
      REQUIRE((whole || near(one.weight[i], p[e] / 3)));
      REQUIRE((whole || !best));
      one.probability *= p[e] * (best ? 1 : whole ? 0.25 : 0.75);
      name.insert(name.end(), {static_cast<int>(e), whole ? 1 : 0});
      dweight.push_back(dloss(e, one.weight[i]));
    }
    REQUIRE(static_cast<Index>(one.ids.size()) == k);
    one.dlogit = test::backward(router, call, table, tape, dweight, 0, nullptr);
    if (seen.emplace(name, one).second) all += one.probability;
  }
  CHECK(near(all, 1));  // every outcome was drawn
  std::vector<Outcome> list;
  for (const auto& [name, one] : seen) list.push_back(one);
  return list;
}
Vector mean_gradient(const std::vector<Outcome>& all) {
  Vector mean(all[0].dlogit.size(), 0);
  for (const Outcome& one : all) {
    for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += one.probability * one.dlogit[i];
  }
  return mean;
}

}  // namespace

TEST_CASE("GRIN's mean gradient is sum of (L(pi_e) - L(0)) d pi_e, for cubic losses", "[router]") {
  const Vector logit{0.3, 1, 0.8};
  const Router router = of_rows(3, 1, 1e6);
  const std::array<std::array<double, 4>, 3> cubic{{{3, 1, -2, 4}, {-1, 2, 0.5, -3}, {2, -2, 1, 1}}};
  const auto loss = [&](std::size_t e, double w) {
    const auto& a = cubic[e];
    return a[0] + w * (a[1] + w * (a[2] + w * a[3]));
  };
  const auto slope = [&](std::size_t e, double w) {
    const auto& a = cubic[e];
    return a[1] + w * (2 * a[2] + w * 3 * a[3]);
  };
  const auto all = outcomes(router, logit, 1, 1e6, slope);
  CHECK(all.size() == 5);  // the best has one outcome, the others two
  const Vector p = test::softmax(logit), mean = mean_gradient(all);
  for (std::size_t i = 0; i < 3; ++i) {
    double want = 0;
    for (std::size_t e = 0; e < 3; ++e) {
      // The best one, expert 1, is always whole: a step of the first order.
      const double gain = e == 1 ? p[e] * slope(e, p[e]) : loss(e, p[e]) - loss(e, 0);
      want += gain * p[e] * ((i == e ? 1 : 0) - p[i]);
    }
    CHECK(near(mean[i], want));
  }
}

TEST_CASE("for a linear loss it is exact, slot by slot, over what the slot could draw", "[router]") {
  const Vector logit{1.6, 2, 1, 1.3}, gain{0.7, -1.1, 2, 0.4};
  constexpr double kEps = 0.2;
  const auto all =
      outcomes(of_rows(4, 2, kEps), logit, 2, kEps, [&](std::size_t e, double) { return gain[e]; });
  const Vector mean = mean_gradient(all);
  // sum over a of pi(a) a's own part, and the second slot's given a: sum over e of pi_e gain_e d pi_e each.
  Vector want(4, 0);
  const auto add = [&](const Vector& p, double factor) {
    for (std::size_t e = 0; e < 4; ++e) {
      for (std::size_t i = 0; i < 4; ++i)
        want[i] += factor * p[e] * gain[e] * p[e] * ((i == e ? 1 : 0) - p[i]);
    }
  };
  const Vector first = near_shares(logit, {}, kEps);
  add(first, 1);
  for (ExpertId a = 0; a < 4; ++a) {
    if (first[static_cast<std::size_t>(a)] > 0)
      add(near_shares(logit, {a}, kEps), first[static_cast<std::size_t>(a)]);
  }
  for (std::size_t i = 0; i < 4; ++i) CHECK(near(mean[i], want[i]));
}

TEST_CASE("GRIN's inference is the sparse mixer's, and its gradient there too", "[router]") {
  using Mixer = moe::TokenChoice<moe::LinearScorer<double>, moe::IdentityScore, moe::TopKSelection,
                                 moe::SparseMixerWeighting>;
  Router grin = of_rows(6, 3, 0.3);
  Mixer mixer(moe::LinearScorer<double>({.width = 6, .outputs = 6}), moe::IdentityScore{},
              moe::TopKSelection(3), moe::SparseMixerWeighting({.eps = 0.3}));
  test::set_parameter(mixer, "gate.weight", test::identity(6));
  const auto call = test::random_call<double>(40, 6, 5);
  CHECK(test::same_pairs(test::route(grin, call), test::route(mixer, call)));
  CHECK(test::same_bits(test::all_gradients(grin, call), test::all_gradients(mixer, call)));
}

TEST_CASE("a row's draws move with its key, not with its place", "[router]") {
  const Router router = of_rows(5, 2, 0.5);
  auto call = test::random_call<double>(30, 5, 6);
  call.training = true;
  const auto routed = test::route(router, call);
  std::vector<Index> reversed;
  for (Index t = 29; t >= 0; --t) reversed.push_back(t);
  const auto turned = test::route(router, call.subset(reversed));
  for (Index t = 0; t < 30; ++t) CHECK(test::same_row(routed, t, turned, 29 - t));
}

TEST_CASE("options of GRIN's router are checked", "[router]") {
  const auto made = [](moe::GrinOptions options) {
    options.width = options.experts = 3;
    return moe::grin_router<double>(options);
  };
  CHECK_THROWS_AS(made({.k = 0}), moe::config_error);
  CHECK_THROWS_AS(made({.k = 4}), moe::config_error);
  CHECK_THROWS_AS(made({.eps = -1}), moe::config_error);
  CHECK_THROWS_AS(made({.load_balance = std::nan("")}), moe::config_error);
  CHECK_NOTHROW(made({}));
}
