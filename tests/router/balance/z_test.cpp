#include "moe/router/balance/z.hpp"

#include <cmath>
#include <limits>

#include "support/balance_case.hpp"

using moe::Index;
using moe::ZLoss;
using test::BalanceCase;

TEST_CASE("z-loss of zeros, by hand", "[z_loss]") {
  BalanceCase c(3, 4, 1);
  CHECK(std::abs(c.loss(ZLoss(1)) - 1.921812) < 5e-7);  // (ln 4)^2
  const auto g = c.gradients(ZLoss(1), 1);
  for (const double d : g.logit) CHECK(std::abs(d - 2.0 / 3 * std::log(4.0) / 4) <= 1e-15);
}

TEST_CASE("z-loss and its gradient match their definition", "[z_loss]") {
  const double c = 0.3, scale = -1.5;
  for (const bool noisy : {false, true}) {
    BalanceCase b = test::random_balance_case(11, 5, 2, 4);
    b.logit[3] = -std::numeric_limits<double>::infinity();  // masked
    if (noisy) {
      b.clean = b.logit;
      for (double& l : b.logit) l += 1;  // noise must not matter
    }
    const std::vector<double>& logit = noisy ? b.clean : b.logit;
    const auto g = b.gradients(ZLoss(c), scale);
    const std::vector<double>& dlogit = noisy ? g.clean : g.logit;
    double loss = 0;
    for (Index t = 0; t < b.tokens; ++t) {
      double sum = 0;
      for (Index e = 0; e < b.outputs; ++e)
        sum += std::exp(logit[static_cast<std::size_t>(t * b.outputs + e)]);
      const double lse = std::log(sum),
                   share = b.active[t] ? 1.0 / static_cast<double>(b.active_tokens()) : 0;
      loss += c * share * lse * lse;
      for (Index e = 0; e < b.outputs; ++e) {
        const auto i = static_cast<std::size_t>(t * b.outputs + e);
        INFO("token " << t << ", expert " << e);
        CHECK(std::abs(dlogit[i] - scale * c * share * 2 * lse * std::exp(logit[i]) / sum) <= 1e-14);
      }
    }
    CHECK(std::abs(b.loss(ZLoss(c)) - loss) <= 1e-13);
    for (const auto* other : {noisy ? &g.logit : &g.clean, &g.score, &g.probability, &g.weight}) {
      for (const double d : *other) CHECK(d == 0);
    }
  }
}

TEST_CASE("z-loss of nothing is 0", "[z_loss]") {
  CHECK(BalanceCase(0, 4, 1).loss(ZLoss(1)) == 0);
  BalanceCase c(2, 4, 1);
  c.active.fill(false);
  CHECK(c.loss(ZLoss(1)) == 0);
  for (const double d : c.gradients(ZLoss(1)).logit) CHECK(d == 0);
}
