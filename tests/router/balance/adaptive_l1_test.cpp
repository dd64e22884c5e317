#include "moe/router/balance/adaptive_l1.hpp"

#include <limits>

#include "support/balance_case.hpp"
#include "support/plain_routing.hpp"

using moe::AdaptiveL1;
using moe::Index;
using test::BalanceCase;
using test::near;

namespace {

moe::RouteStats stats_of(Index tokens, const std::vector<Index>& load) {
  moe::RouteStats stats;
  stats.tokens = tokens;
  stats.load.copy_from(load.data(), static_cast<Index>(load.size()));
  return stats;
}

/// Scores of random logits' positive parts; the chosen are the positive ones.
BalanceCase relu_case(std::uint64_t seed) {
  BalanceCase c = test::random_balance_case(15, 4, 4, seed);
  for (Index t = 0; t < 15; ++t) {
    Index& count = c.chosen_count[static_cast<std::size_t>(t)];
    count = 0;
    for (Index e = 0; e < 4; ++e) {
      const auto at = static_cast<std::size_t>(t * 4 + e);
      c.score[at] = std::max(c.logit[at], 0.0);
      if (c.score[at] > 0) c.choice(t, count++) = static_cast<moe::ExpertId>(e);
    }
  }
  return c;
}

}  // namespace

TEST_CASE("the L1 coefficient follows the sparsity", "[router]") {
  AdaptiveL1 part({.k = 1, .coefficient = 1e-8, .growth = 1.2});
  CHECK(part.coefficient() == 1e-8);
  part.on_step_end(stats_of(10, {6, 5}));  // 1.1 experts per token: too many
  CHECK(part.coefficient() == 1e-8 * 1.2);
  part.on_step_end(stats_of(10, {5, 4}));
  CHECK(part.coefficient() == 1e-8 * 1.2 / 1.2);
  part.on_step_end(stats_of(10, {5, 5}));  // exactly k: divided, as in the published code
  CHECK(part.coefficient() == 1e-8 * 1.2 / 1.2 / 1.2);
  const double before = part.coefficient();
  part.on_step_end(stats_of(0, {0, 0}));
  CHECK(part.coefficient() == before);
  CHECK(AdaptiveL1({}).coefficient() == 1e-8);
}

TEST_CASE("the L1 coefficient can neither vanish nor overflow for good", "[router]") {
  AdaptiveL1 part({.k = 2, .coefficient = 1, .growth = 1e100});
  for (int i = 0; i < 10; ++i) part.on_step_end(stats_of(1, {1, 0, 0}));
  CHECK(part.coefficient() == std::numeric_limits<double>::min());
  for (int i = 0; i < 20; ++i) part.on_step_end(stats_of(1, {1, 1, 1}));
  CHECK(part.coefficient() == std::numeric_limits<double>::max());
  AdaptiveL1 off({.coefficient = 0});
  off.on_step_end(stats_of(1, {1, 1, 1}));
  CHECK(off.coefficient() == 0);
}

TEST_CASE("the L1 loss weighs mean scores by the load, by hand", "[router]") {
  BalanceCase c(2, 2, 2);
  c.score = {1, 0, 2, 3};
  c.chosen = {0, 0, 1, 0};
  c.chosen_count = {1, 2};
  // f = N / (k T) * count = 2 / (1 * 2) * {2, 1}; mean scores {1.5, 1.5}.
  const AdaptiveL1 part({.k = 1, .coefficient = 0.1});
  CHECK(near(c.loss(part), 0.1 * (2 * 1.5 + 1 * 1.5)));
  const AdaptiveL1 plain({.k = 1, .coefficient = 0.1, .balance = false});
  CHECK(near(c.loss(plain), 0.1 * 3));
  const auto g = c.gradients(part, 2.0);
  CHECK(near(g.score[0], 2.0 * 0.1 * 2 / 2));
  CHECK(g.score[1] == 0);  // inactive
  CHECK(near(g.score[3], 2.0 * 0.1 * 1 / 2));
}

TEST_CASE("the L1 loss agrees with plain loops and has the gradient of its scores", "[router]") {
  for (const bool balance : {true, false}) {
    const BalanceCase c = relu_case(5);
    const AdaptiveL1 part({.k = 2, .coefficient = 0.3, .balance = balance});
    const auto tokens = static_cast<double>(c.active_tokens());
    double expected = 0;
    for (Index e = 0; e < 4; ++e) {
      double count = 0, sum = 0;
      for (Index t = 0; t < c.tokens; ++t) {
        if (!c.active[t]) continue;
        count += c.score[static_cast<std::size_t>(t * 4 + e)] > 0 ? 1 : 0;
        sum += c.score[static_cast<std::size_t>(t * 4 + e)];
      }
      expected += 0.3 * (balance ? 4 / (2 * tokens) * count : 1.0) * sum / tokens;
    }
    CHECK(near(c.loss(part), expected));
    test::check_array_gradient(part, c, 1.5, &BalanceCase::score, &BalanceCase::Gradients::score);
  }
}

TEST_CASE("the L1 loss of a batch without tokens or experts is 0", "[router]") {
  const AdaptiveL1 part({.coefficient = 1});
  CHECK(BalanceCase(0, 3, 3).loss(part) == 0);
  BalanceCase none(2, 3, 3);
  none.chosen_count = {0, 0};
  CHECK(none.loss(part) == 0);
  for (const double g : none.gradients(part).score) CHECK(g == 0);
}

TEST_CASE("a saved coefficient of the L1 loss that is none is refused", "[router]") {
  AdaptiveL1 part({.k = 2, .coefficient = 0.5});
  for (const double bad :
       {-1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    auto load = [bad](const char*, double* value, Index) { *value = bad; };
    CHECK_THROWS_AS(part.visit_state(load), moe::numeric_error);
    CHECK(part.coefficient() == 0.5);
  }
}

TEST_CASE("options of the L1 loss are checked", "[router]") {
  const double nan = std::numeric_limits<double>::quiet_NaN(),
               infinity = std::numeric_limits<double>::infinity();
  CHECK_THROWS_AS(AdaptiveL1({.k = 0}), moe::config_error);
  for (const double bad : {-1.0, nan, infinity})
    CHECK_THROWS_AS(AdaptiveL1({.coefficient = bad}), moe::config_error);
  for (const double bad : {0.9, nan, infinity})
    CHECK_THROWS_AS(AdaptiveL1({.growth = bad}), moe::config_error);
  CHECK_THROWS_AS(AdaptiveL1({.k = 3}).check(2), moe::config_error);
  CHECK_NOTHROW(AdaptiveL1({.k = 2}).check(2));
}
