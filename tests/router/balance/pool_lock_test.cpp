#include "moe/router/balance/pool_lock.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "support/balance_case.hpp"
#include "support/plain_routing.hpp"

using moe::Index;
using moe::PoolLock;
using test::near;

namespace {

/// Rows of scores, the second of which takes no part.
test::BalanceCase scores(const std::vector<double>& values) {
  test::BalanceCase c(3, 4, 1);
  c.score = values;
  c.active[1] = false;
  return c;
}

}  // namespace

TEST_CASE("pool lock: the entropy of the mean scores is drawn to the logarithm of a number of experts",
          "[router]") {
  const PoolLock two({.outputs = 4, .layers = 3, .own = 2, .coefficient = 0.6});
  // Means over the rows that take part 3 : 1 : 0 : 0.
  const auto c = scores({2, 2, 0, 0, 9, 9, 9, 9, 4, 0, 0, 0});
  const double h = -(0.75 * std::log(0.75) + 0.25 * std::log(0.25)), off = h - std::log(2.0);
  CHECK(near(c.loss(two), 0.6 * off * off / 3));
  const auto d = c.gradients(two, 0.5).score;
  for (std::size_t e = 0; e < 4; ++e) {
    const double share = e == 0 ? 0.75 : 0.25;
    const double want = e > 1 ? 0 : 0.5 * 0.6 / 3 * 2 * off * -(std::log(share) + h) / 8;
    CHECK(near(d[e], want));
    CHECK(d[4 + e] == 0);
    CHECK(near(d[8 + e], want));
  }
  // As many experts as it is to have, evenly: neither loss nor gradient.
  const auto even = scores({1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 1});
  CHECK(near(even.loss(two), 0));
  for (const double v : even.gradients(two).score) CHECK(near(v, 0));
  CHECK(scores(std::vector<double>(12, 0)).loss(PoolLock({.outputs = 4, .coefficient = 1})) == 0);
  auto nobody = c;
  nobody.active.fill(false);
  CHECK(nobody.loss(two) == 0);
}

TEST_CASE("pool lock: who is locked out is nobody's choice; saved, loaded and refused", "[router]") {
  PoolLock part({.outputs = 3}), other({.outputs = 3});
  const std::vector<bool> own{false, true, true};
  part.lock(own);
  CHECK(part.selection_bias()[0] == -std::numeric_limits<double>::infinity());
  CHECK((part.selection_bias()[1] == 0 && part.open(2) && !part.open(0)));
  auto state = test::save_state(part);
  CHECK(state[0].second == std::vector<double>{0, 1, 1});
  test::load_state(other, state);
  CHECK(!other.open(0));
  for (const double bad : {0.5, -1.0}) {
    state[0].second[1] = bad;
    CHECK_THROWS_AS(test::load_state(other, state), moe::numeric_error);
  }
  state[0].second = {0, 0, 0};
  CHECK_THROWS_AS(test::load_state(other, state), moe::numeric_error);
  CHECK(other.open(1));
  part.lock({});
  CHECK(part.open(0));
  CHECK_THROWS_AS(part.lock(std::vector<bool>{true}), moe::shape_error);
  CHECK_THROWS_AS(part.lock(std::vector<bool>(3)), moe::config_error);
  CHECK_THROWS_AS(part.check(4), moe::shape_error);
  CHECK_THROWS_AS(PoolLock({.outputs = 0}), moe::config_error);
  CHECK_THROWS_AS(PoolLock({.outputs = 2, .layers = 0}), moe::config_error);
  CHECK_THROWS_AS(PoolLock({.outputs = 2, .own = 2.5}), moe::config_error);
  CHECK_THROWS_AS(PoolLock({.outputs = 2, .coefficient = std::nan("")}), moe::config_error);
  CHECK_THROWS_AS(part.set_coefficient(std::nan("")), moe::config_error);
  CHECK(part.coefficient() == 0);
}
