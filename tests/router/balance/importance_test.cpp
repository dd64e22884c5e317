#include "moe/router/balance/importance.hpp"

#include "moe/core/random.hpp"
#include "support/balance_case.hpp"
#include "support/plain_routing.hpp"

using moe::ImportanceLoss;
using moe::Index;
using test::BalanceCase;
using test::near;

TEST_CASE("importance is CV^2 of the summed weights, by hand", "[router]") {
  BalanceCase c(2, 2, 1);
  c.choice(0, 0) = 0;
  c.choice(1, 0) = 1;
  c.weight = {1.5, 0.5};  // mean 1, variance 1/4
  CHECK(near(c.loss(ImportanceLoss(0.1)), 0.025));
  CHECK(ImportanceLoss().coefficient() == 0.1);
  c.weight = {0.5, 0.5};
  CHECK(c.loss(ImportanceLoss(0.1)) == 0);
}

TEST_CASE("importance skips what is not routed", "[router]") {
  BalanceCase c = test::random_balance_case(20, 5, 2, 3);
  const moe::KeyedRandom draw(4, 0, moe::DrawStream::user);
  test::Vector sum(5, 0);
  for (Index i = 0; i < 40; ++i) {
    const auto at = static_cast<std::size_t>(i);
    c.weight[at] = draw.uniform(static_cast<std::uint64_t>(i), 0);
    c.keep[i] = i % 7 != 0;
    if (c.keep[i] && c.active[i / 2]) sum[static_cast<std::size_t>(c.chosen[at])] += c.weight[at];
  }
  CHECK(near(c.loss(ImportanceLoss(0.3)), 0.3 * test::squared_variation(sum)));
  test::check_array_gradient(ImportanceLoss(0.3), c, -2.0, &BalanceCase::weight,
                             &BalanceCase::Gradients::weight);
}

TEST_CASE("importance of an empty batch is 0", "[router]") {
  BalanceCase none(0, 3, 2);
  CHECK(none.loss(ImportanceLoss(1)) == 0);
  BalanceCase padded = test::random_balance_case(4, 3, 2, 1);
  padded.active.fill(false);
  CHECK(padded.loss(ImportanceLoss(1)) == 0);
  for (const double g : padded.gradients(ImportanceLoss(1)).weight) CHECK(g == 0);
}
