#include "moe/router/balance/load_balance.hpp"

#include <cmath>
#include <vector>

#include "moe/router/named/top_k.hpp"
#include "support/balance_case.hpp"

namespace {

using moe::Index;
using moe::LoadBalance;
using test::BalanceCase;

bool close(double a, double b) {
  return std::abs(a - b) <= 1e-12 * (1 + std::abs(b));
}

/// c * N * sum of eta_e f_e P_e, written out.
double naive(const BalanceCase& c, double coefficient, bool first_only, const std::vector<double>& eta,
             const std::vector<double>& outside) {
  double loss = 0;
  for (Index e = 0; e < c.outputs; ++e) {
    double count = outside.empty() ? 0 : outside[static_cast<std::size_t>(e)], total = 0, p = 0;
    for (const double n : outside) total += n;
    for (Index t = 0; t < c.tokens; ++t) {
      if (!c.active[t]) continue;
      const auto choices = c.chosen_count[static_cast<std::size_t>(t)];
      for (Index i = 0; i < (first_only ? std::min<Index>(choices, 1) : choices); ++i) {
        count += c.chosen[static_cast<std::size_t>(t * c.most + i)] == e ? 1 : 0;
        total += 1;
      }
      p +=
          c.probability[static_cast<std::size_t>(t * c.outputs + e)] / static_cast<double>(c.active_tokens());
    }
    loss += (eta.empty() ? 1 : eta[static_cast<std::size_t>(e)]) * count / total * p;
  }
  return coefficient * static_cast<double>(c.outputs) * loss;
}

}  // namespace

TEST_CASE("load balance is below its balanced value where who is chosen is not who is probable",
          "[load_balance]") {
  // Half of the tokens choose expert 0 by a hair, half expert 1: the third has a third of the probability.
  BalanceCase c(2, 3, 1);
  c.choice(0, 0) = 0;
  c.choice(1, 0) = 1;
  c.probability = {0.34, 0.33, 0.33, 0, 0.501, 0.499};
  CHECK(close(c.loss(LoadBalance({.coefficient = 1})), 3 * (0.5 * 0.17 + 0.5 * 0.4155)));  // 0.878
}

TEST_CASE("load balance: c where all is uniform, N times that with one expert", "[load_balance]") {
  BalanceCase c(4, 4, 1);
  for (Index t = 0; t < 4; ++t) {
    c.choice(t, 0) = static_cast<moe::ExpertId>(t);
    for (Index e = 0; e < 4; ++e) c.p(t, e) = 0.25;
  }
  CHECK(close(c.loss(LoadBalance({.coefficient = 0.01})), 0.01));
  for (Index t = 0; t < 4; ++t) {
    c.choice(t, 0) = 2;
    for (Index e = 0; e < 4; ++e) c.p(t, e) = e == 2 ? 1 : 0;
  }
  CHECK(close(c.loss(LoadBalance({.coefficient = 0.01})), 0.04));
}

TEST_CASE("load balance over micro-batches: f of all, P of each", "[load_balance]") {
  // Two micro-batches, one all on expert 0, the other all on expert 1: each is as unbalanced as can be (2 for
  // N = 2), together they are balanced (1).
  const LoadBalance part({.coefficient = 1});
  double alone = 0, together = 0;
  for (const moe::ExpertId e : {0, 1}) {
    BalanceCase c(3, 2, 1);
    for (Index t = 0; t < 3; ++t) {
      c.choice(t, 0) = e;
      c.p(t, e) = 1;
    }
    alone += c.loss(part) / 2;
    const std::vector<double> outside{e == 0 ? 0.0 : 3.0, e == 0 ? 3.0 : 0.0};
    c.call.outside_counts = outside;
    together += c.loss(part) / 2;
  }
  CHECK(close(alone, 2));
  CHECK(close(together, 1));
}

TEST_CASE("load balance matches its definition", "[load_balance]") {
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    INFO("seed " << seed);
    BalanceCase c = test::random_balance_case(1 + static_cast<Index>(seed) * 5, 6,
                                              1 + static_cast<Index>(seed % 3), seed);
    if (seed % 4 == 3) c.chosen_count[0] = 0;  // a token that chose nothing (ReLU routing)
    const std::vector<double> outside{3, 0, 7, 1, 0, 2}, eta{1, 2, 0.5, 0, 3, 1};
    for (const bool first_only : {false, true}) {
      for (const bool with_outside : {false, true}) {
        c.call.outside_counts = {};
        if (with_outside) c.call.outside_counts = outside;
        moe::Buffer<double> factors;
        factors.copy_from(eta.data(), 6);
        const LoadBalance plain({.coefficient = 0.3, .first_choice_only = first_only});
        const LoadBalance weighted({.coefficient = 0.3, .first_choice_only = first_only}, factors);
        const std::vector<double> counts = with_outside ? outside : std::vector<double>{};
        CHECK(close(c.loss(plain), naive(c, 0.3, first_only, {}, counts)));
        CHECK(close(c.loss(weighted), naive(c, 0.3, first_only, eta, counts)));
        test::check_probability_gradient(plain, c, 1);
        test::check_probability_gradient(weighted, c, -0.7);
      }
    }
  }
}

TEST_CASE("load balance of nothing is 0", "[load_balance]") {
  CHECK(BalanceCase(0, 3, 1).loss(LoadBalance{}) == 0);
  BalanceCase c = test::random_balance_case(2, 3, 1, 1);
  c.active.fill(false);
  CHECK(c.loss(LoadBalance{}) == 0);
  for (const double g : c.gradients(LoadBalance{}).probability) CHECK(g == 0);
}

TEST_CASE("load balance factors must be one per output", "[load_balance]") {
  const LoadBalance part({}, moe::Buffer<double>(3));
  CHECK_NOTHROW(part.check(3));
  CHECK_THROWS_AS(part.check(4), moe::shape_error);
}

TEST_CASE("through a router: (N / T) p (f - sum of f p)", "[load_balance]") {
  auto router = moe::softmax_top_k<double>({.width = 4, .experts = 5, .k = 2, .load_balance = 0.5});
  test::randomise(router, 3);
  auto call = test::random_call<double>(9, 4, 2);
  call.training = true;
  call.valid.assign(9, true);
  call.valid[4] = false;
  moe::SoftmaxTopK<double>::Tape tape;
  test::OwnedTable<double> table(router, call.shape());
  const auto routed = test::route_train(router, call, table, tape);
  const std::vector<double> none(static_cast<std::size_t>(routed.pairs()), 0);
  auto gradients = router.make_gradients();
  test::backward(router, call, table, tape, none, 1, &gradients);

  // dlogit by the formula, then dW = dlogit^T x.
  std::vector<double> f(5, 0), w(20), expected(20, 0);
  for (const moe::ExpertId e : routed.expert) f[static_cast<std::size_t>(e)] += 1.0 / 16;
  const auto elements = test::elements(router, gradients);
  for (std::size_t i = 0; i < 20; ++i) w[i] = *elements[i].value;
  for (Index t = 0; t < 9; ++t) {
    if (t == 4) continue;
    double p[5], sum = 0, fp = 0;
    for (std::size_t e = 0; e < 5; ++e) {
      double logit = 0;
      for (std::size_t j = 0; j < 4; ++j) logit += w[e * 4 + j] * call.row(t)[j];
      sum += p[e] = std::exp(logit);
    }
    for (std::size_t e = 0; e < 5; ++e) fp += f[e] * (p[e] /= sum);
    for (std::size_t e = 0; e < 5; ++e) {
      for (std::size_t j = 0; j < 4; ++j)
        expected[e * 4 + j] += 0.5 * 5.0 / 8 * p[e] * (f[e] - fp) * call.row(t)[j];
    }
  }
  for (std::size_t i = 0; i < 20; ++i) {
    INFO(elements[i].name);
    CHECK(close(*elements[i].gradient, expected[i]));
  }
}
