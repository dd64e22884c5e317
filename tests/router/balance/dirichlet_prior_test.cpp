#include "moe/router/balance/dirichlet_prior.hpp"

#include <cmath>
#include <limits>

#include "support/balance_case.hpp"
#include "support/plain_routing.hpp"

namespace {

using moe::DirichletPrior;
using moe::Index;
using test::BalanceCase;

/// The x with F(x) = target, by bisection.
double quantile(const moe::math::BetaDistribution& of, double target) {
  double low = 0, high = 1;
  for (int i = 0; i < 200; ++i) (of.cdf((low + high) / 2) < target ? low : high) = (low + high) / 2;
  return (low + high) / 2;
}

}  // namespace

TEST_CASE("probabilities on the prior's quantiles, in any order, cost nothing", "[dirichlet]") {
  for (const double alpha : {0.3, 1.0, 4.0}) {
    BalanceCase c(9, 3, 1);
    for (Index e = 0; e < 3; ++e) {
      for (Index t = 0; t < 9; ++t) {
        const Index rank = (4 * t + e) % 9;
        c.p(t, e) = quantile({alpha, 2 * alpha}, static_cast<double>(rank + 1) / 10);
      }
    }
    const DirichletPrior prior({.coefficient = 1, .alpha = alpha});
    CHECK(c.loss(prior) <= 1e-24);
    c.p(4, 1) = 0.999;
    CHECK(c.loss(prior) > 1e-4);
  }
}

TEST_CASE("alpha (1, 1) has uniform marginals, by hand", "[dirichlet]") {
  BalanceCase c(2, 2, 1);
  c.probability = {0.9, 0.1, 0.2, 0.8};  // ranks 1/3 and 2/3
  const double ranks = (std::pow(0.2 - 1.0 / 3, 2) + std::pow(0.9 - 2.0 / 3, 2) + std::pow(0.1 - 1.0 / 3, 2) +
                        std::pow(0.8 - 2.0 / 3, 2)) /
                       2;
  CHECK(test::near(c.loss(DirichletPrior({.coefficient = 0.5, .alpha = 1})), 0.5 * ranks));
  moe::Buffer<double> alpha(2);
  alpha.fill(1);
  CHECK(test::near(c.loss(DirichletPrior({.coefficient = 0.5, .alpha = 3}, alpha)), 0.5 * ranks));
}

TEST_CASE("gradients match differences, with an alpha for every output", "[dirichlet]") {
  moe::Buffer<double> alpha(4);
  for (Index e = 0; e < 4; ++e) alpha[e] = 1.2 + 0.7 * static_cast<double>(e);
  BalanceCase c = test::random_balance_case(6, 4, 1, 4);
  for (Index t = 0; t < 6; ++t) {
    for (Index e = 0; e < 4; ++e) c.p(t, e) = 0.1 + 0.14 * static_cast<double>((t + 2 * e) % 6);
  }
  test::check_array_gradient(DirichletPrior({.coefficient = 0.3}, alpha), c, -2, &BalanceCase::probability,
                             &BalanceCase::Gradients::probability);
}

TEST_CASE("what is masked or takes no part does not count; 0 and 1 have finite gradients", "[dirichlet]") {
  const DirichletPrior prior({.coefficient = 1, .alpha = 0.2});
  BalanceCase c(3, 2, 1);
  c.probability = {1, 0, 0.5, 0.5, 0, 1};
  for (const double g : c.gradients(prior).probability) CHECK(std::isfinite(g));
  c.active[1] = false;
  c.logit[1] = c.logit[4] = -std::numeric_limits<double>::infinity();
  const auto g = c.gradients(prior).probability;
  CHECK((g[1] == 0 && g[2] == 0 && g[3] == 0 && g[4] == 0));
  // One token is left for each output: its rank is 1/2.
  CHECK(test::near(c.loss(prior), 2 * std::pow(1 - 0.5, 2)));
  CHECK(BalanceCase(0, 2, 1).loss(prior) == 0);
}

TEST_CASE("Dirichlet priors refuse what does not fit", "[dirichlet]") {
  CHECK_THROWS_WITH(DirichletPrior({.alpha = 0}),
                    "moe: dirichlet prior: expected an alpha in [0.001, 10000], got 0");
  CHECK_THROWS_AS(DirichletPrior({.coefficient = std::nan("")}), moe::config_error);
  moe::Buffer<double> alpha(3);
  CHECK_THROWS_AS(DirichletPrior({}, alpha), moe::config_error);
  alpha.fill(1);
  CHECK_THROWS_WITH(DirichletPrior({}, alpha).check(4), "moe: dirichlet prior: expected 4 alphas, got 3");
  CHECK_THROWS_AS(DirichletPrior().check(1), moe::config_error);
}
