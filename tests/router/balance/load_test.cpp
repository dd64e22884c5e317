#include "moe/router/balance/load.hpp"

#include "moe/core/random.hpp"
#include "support/balance_case.hpp"
#include "support/plain_routing.hpp"

using moe::ExpertId;
using moe::Index;
using moe::LoadLoss;
using test::BalanceCase;
using test::near;

namespace {

double phi(double x) {
  return 0.5 * std::erfc(-x / std::sqrt(2.0));
}

/// Noisy logits of random clean ones; the k highest are chosen. `masked`: outputs that are masked for even
/// tokens.
BalanceCase noisy_case(Index tokens, Index outputs, Index k, std::uint64_t seed, Index masked = 0) {
  BalanceCase c = test::random_balance_case(tokens, outputs, k, seed);
  const moe::KeyedRandom draw(seed, 9, moe::DrawStream::user);
  c.clean = c.noise_scale = c.logit;
  for (Index t = 0; t < tokens; ++t) {
    test::Vector noisy;
    for (Index e = 0; e < outputs; ++e) {
      const auto at = static_cast<std::size_t>(t * outputs + e);
      const auto row = static_cast<std::uint64_t>(t);
      c.noise_scale[at] = 0.3 + draw.uniform(row, static_cast<std::uint32_t>(2 * e));
      if (t % 2 == 0 && e < masked) c.clean[at] = -INFINITY;
      c.logit[at] = c.clean[at] + c.noise_scale[at] * draw.normal(row, static_cast<std::uint32_t>(2 * e + 1));
      noisy.push_back(c.logit[at]);
    }
    const auto ids = test::best(noisy, k);
    c.chosen_count[static_cast<std::size_t>(t)] = 0;
    for (Index i = 0; i < k; ++i) {
      c.choice(t, i) = ids[static_cast<std::size_t>(i)];
      if (noisy[static_cast<std::size_t>(c.choice(t, i))] > -INFINITY)
        ++c.chosen_count[static_cast<std::size_t>(t)];
    }
  }
  return c;
}

/// Phi((clean_e - k-th highest noisy logit of the others) / s_e), summed over active tokens.
test::Vector plain_loads(const BalanceCase& c, Index k) {
  test::Vector load(static_cast<std::size_t>(c.outputs), 0);
  for (Index t = 0; t < c.tokens; ++t) {
    for (Index e = 0; c.active[t] && e < c.outputs; ++e) {
      test::Vector others;
      for (Index j = 0; j < c.outputs; ++j) {
        if (j != e) others.push_back(c.logit[static_cast<std::size_t>(t * c.outputs + j)]);
      }
      std::sort(others.rbegin(), others.rend());
      const double threshold =
          k <= c.outputs - 1 ? others[static_cast<std::size_t>(k - 1)] : -static_cast<double>(INFINITY);
      const auto at = static_cast<std::size_t>(t * c.outputs + e);
      if (c.clean[at] == -INFINITY) continue;  // masked: never
      load[static_cast<std::size_t>(e)] +=
          threshold == -INFINITY ? 1.0 : phi((c.clean[at] - threshold) / c.noise_scale[at]);
    }
  }
  return load;
}

}  // namespace

TEST_CASE("load of one token on two experts, by hand", "[router]") {
  BalanceCase c(1, 2, 1);
  const double s = std::log(2.0);  // softplus(0): the scale of weights that are zero
  c.clean = {0.2, -0.1};
  c.noise_scale = {s, s};
  c.logit = {0.5, 0.3};
  c.choice(0, 0) = 0;
  const double load0 = phi((0.2 - 0.3) / s), load1 = phi((-0.1 - 0.5) / s);
  CHECK(near(c.loss(LoadLoss(0.1)), 0.1 * test::squared_variation({load0, load1})));
  CHECK(LoadLoss().coefficient() == 0.1);
}

TEST_CASE("load agrees with sorting the others of every expert", "[router]") {
  for (const Index k : {1, 2, 5, 6}) {
    for (const Index masked : {0, 3, 5}) {
      INFO("k = " << k << ", masked " << masked);
      const BalanceCase c = noisy_case(12, 6, k, static_cast<std::uint64_t>(k), masked);
      CHECK(near(c.loss(LoadLoss(0.7)), 0.7 * test::squared_variation(plain_loads(c, k))));
    }
  }
}

TEST_CASE("load has the gradients of clean logits, thresholds and noise", "[router]") {
  BalanceCase c = noisy_case(7, 5, 2, 21);
  for (const auto& arrays : {std::pair(&BalanceCase::clean, &BalanceCase::Gradients::clean),
                             std::pair(&BalanceCase::logit, &BalanceCase::Gradients::logit),
                             std::pair(&BalanceCase::noise_scale, &BalanceCase::Gradients::noise_scale)}) {
    test::check_array_gradient(LoadLoss(0.4), c, 3.0, arrays.first, arrays.second);
  }
  for (const double g : c.gradients(LoadLoss(0.4)).score) CHECK(g == 0);
}

TEST_CASE("load with masks or all experts chosen has finite gradients", "[router]") {
  for (const Index k : {1, 2, 4}) {
    const auto g = noisy_case(9, 4, k, 5, 3).gradients(LoadLoss(1));
    for (const auto* v : {&g.clean, &g.logit, &g.noise_scale}) {
      for (const double x : *v) CHECK(moe::is_finite(x));
    }
  }
}

TEST_CASE("load of k = N is the batch for every expert", "[router]") {
  const BalanceCase c = noisy_case(6, 3, 3, 8);
  CHECK(c.loss(LoadLoss(1)) == 0);
  for (const double g : c.gradients(LoadLoss(1)).clean) CHECK(g == 0);
}

TEST_CASE("load without noise is the count, without gradient", "[router]") {
  BalanceCase c(3, 2, 1);  // clean and noise_scale stay empty
  c.logit = {1, 0, 1, 0, 0, 1};
  c.choice(2, 0) = 1;
  CHECK(near(c.loss(LoadLoss(1)), test::squared_variation({2, 1})));
  for (const double g : c.gradients(LoadLoss(1)).logit) CHECK(g == 0);
  // The same where the scale underflowed to 0.
  c.clean = c.logit;
  c.noise_scale.assign(6, 0);
  CHECK(near(c.loss(LoadLoss(1)), test::squared_variation({2, 1})));
  const auto g = c.gradients(LoadLoss(1));
  for (const auto* v : {&g.clean, &g.logit, &g.noise_scale}) {
    for (const double x : *v) CHECK(x == 0);
  }
  c.clean = c.logit = {1, 1, 0, 0, 2, 2};  // ties: the lower id wins
  c.choice(2, 0) = 0;
  CHECK(near(c.loss(LoadLoss(1)), test::squared_variation({3, 0})));
}
