#include "moe/router/named/rmoe.hpp"

#include <cmath>

#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::Index;
using Cell = moe::GruCell<double>;

Cell& shared_cell() {
  static Cell cell = [] {
    Cell c(3, 4);
    test::randomise(c, 2);
    return c;
  }();
  return cell;
}

constexpr moe::RmoeOptions kOptions{.width = 5, .experts = 6, .k = 3, .load_balance = 0.3, .z_loss = 0.1};

const test::RouterCases kCases{
    {"RmoeRouter", [] { return moe::rmoe_router<double>(shared_cell(), kOptions); }, {.ties = false}},
    {"RmoeRouter, own cell", [] { return moe::rmoe_router<double>(Cell(3, 4), kOptions); }, {.ties = false}},
};

}  // namespace

TEST_CASE("RMoE: softmax over all, the k best, weights over their sum", "[rmoe]") {
  auto router = moe::rmoe_router<double>(shared_cell(), kOptions);
  test::randomise(router, 3);
  CHECK(router.carry_width() == 4);
  auto call = test::random_call<double>(3, 5, 1);
  test::add_carry(call, 4);
  const auto routed = test::route(router, call);
  for (Index t = 0; t < 3; ++t) {
    CHECK(routed.experts_of(t).size() == 3);
    CHECK(test::near(test::total(routed.weights_of(t)), 1));
  }
}

TEST_CASE("RMoE refuses options that do not fit", "[rmoe]") {
  const auto refuses = [](moe::RmoeOptions options) {
    CHECK_THROWS_AS(moe::rmoe_router<double>(shared_cell(), options), moe::config_error);
  };
  refuses({.width = 0, .experts = 4});
  refuses({.width = 4, .experts = 0});
  refuses({.width = 4, .experts = 4, .k = 5});
  refuses({.width = 4, .experts = 4, .z_loss = std::nan("")});
}
