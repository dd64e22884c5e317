#include "moe/router/balance/pool_balance.hpp"

#include <cmath>

#include "support/balance_case.hpp"
#include "support/plain_routing.hpp"

using moe::Index;
using moe::PoolBalance;
using test::near;

namespace {

moe::RouteStats stats_of(const std::vector<Index>& load) {
  moe::RouteStats stats;
  stats.tokens = 10;
  stats.load.copy_from(load.data(), static_cast<Index>(load.size()));
  return stats;
}
double loss_of(const PoolBalance& part, const test::BalanceCase& c) {
  moe::Arena none;
  return part.forward(c.input(), none);
}

}  // namespace

TEST_CASE("pool balance: the losses of all layers add up to c at a uniform load", "[router]") {
  double sum = 0;
  for (std::uint64_t layer = 0; layer < 3; ++layer) {
    PoolBalance part({.outputs = 4, .layers = 3, .coefficient = 0.5});
    if (layer > 0) part.on_step_end(stats_of({7, 7, 7, 7}));  // as it is before any step
    sum += loss_of(part, test::random_balance_case(15, 4, 2, layer + 1));
  }
  CHECK(near(sum, 0.5));
}

TEST_CASE("pool balance agrees with plain loops over the layers, with the counts of the step before",
          "[router]") {
  const std::vector<Index> load{5, 0, 3, 2};
  std::vector<test::BalanceCase> layers;
  double sum = 0;
  test::Vector mean(4, 0);
  for (std::uint64_t l = 0; l < 2; ++l) {
    PoolBalance part({.outputs = 4, .layers = 2, .coefficient = 0.3});
    part.on_step_end(stats_of({1, 1, 1, 7}));
    part.on_step_end(stats_of(load));
    part.on_step_end(stats_of({0, 0, 0, 0}));  // a step without choices
    auto c = test::random_balance_case(15, 4, 2, l + 1);
    c.active[3] = false;
    sum += loss_of(part, c);
    for (Index t = 0; t < 15; ++t) {
      for (Index e = 0; c.active[t] && e < 4; ++e) {
        mean[static_cast<std::size_t>(e)] += c.p(t, e) / static_cast<double>(c.active_tokens()) / 2;
      }
    }
    // The gradient is the loss's: it is linear in the probabilities.
    std::vector<double> d(60, 1);
    moe::BalanceGradients<double> out;
    out.dprobability = moe::MatrixView<double>(d.data(), 15, 4);
    moe::Arena none;
    part.backward(c.input(), 2, out, none);
    double linear = 0;
    for (Index t = 0; t < 15; ++t) {
      for (Index e = 0; e < 4; ++e) linear += (d[static_cast<std::size_t>(t * 4 + e)] - 1) / 2 * c.p(t, e);
    }
    CHECK(near(linear, loss_of(part, c)));
    CHECK(d[3 * 4 + 1] == 1);  // not active
  }
  double want = 0;
  for (std::size_t e = 0; e < 4; ++e) want += 0.3 * 4 * static_cast<double>(load[e]) / 10 * mean[e];
  CHECK(near(sum, want));
  auto nobody = test::random_balance_case(2, 4, 2, 1);
  nobody.active.fill(false);
  CHECK(loss_of(PoolBalance({.outputs = 4}), nobody) == 0);
}

TEST_CASE("pool balance: state is saved, loaded and refused; so are options", "[router]") {
  PoolBalance part({.outputs = 3}), other({.outputs = 3});
  part.on_step_end(stats_of({1, 1, 2}));
  auto state = test::save_state(part);
  REQUIRE((state.size() == 1 && state[0].first == "pool_balance.share"));
  CHECK(state[0].second == std::vector<double>{0.25, 0.25, 0.5});
  test::load_state(other, state);
  CHECK(other.share()[2] == 0.5);
  state[0].second[1] = -1;
  CHECK_THROWS_AS(test::load_state(other, state), moe::numeric_error);
  CHECK(other.share()[1] == 0.25);
  CHECK_THROWS_AS(part.on_step_end(stats_of({1, 2})), moe::shape_error);
  CHECK_THROWS_AS(part.check(4), moe::shape_error);
  CHECK_THROWS_AS(PoolBalance({.outputs = 0}), moe::config_error);
  CHECK_THROWS_AS(PoolBalance({.outputs = 2, .layers = 0}), moe::config_error);
  CHECK_THROWS_AS(PoolBalance({.outputs = 2, .coefficient = std::nan("")}), moe::config_error);
}
