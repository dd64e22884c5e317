#include "moe/router/count_buffer.hpp"

#include <utility>
#include <vector>

#include "moe/router/named/switch.hpp"
#include "support/plain_routing.hpp"

using moe::CountBuffer;
using moe::Index;

namespace {

moe::RouteStats counted(const std::vector<Index>& load) {
  moe::RouteStats stats;
  stats.load.assign(static_cast<Index>(load.size()), 0);
  stats.gate_mass.assign(static_cast<Index>(load.size()), 0);
  for (std::size_t e = 0; e < load.size(); ++e) {
    stats.load[static_cast<Index>(e)] = load[e];
    stats.tokens += load[e];
  }
  return stats;
}

}  // namespace

TEST_CASE("two micro-batches that go to one expert each are balanced together", "[router]") {
  // Logits +-40: probabilities 1 and 0. The loss N sum f P is 2 alone, 1 over both.
  auto router = moe::switch_router<double>({.width = 2, .experts = 2, .load_balance = 1});
  test::set_parameter(router, "gate.weight", test::identity(2));
  auto first = test::call_of(test::Matrix(4, test::Vector{40, 0})),
       second = test::call_of(test::Matrix(4, test::Vector{0, 40}));
  first.training = second.training = true;
  CountBuffer buffer(2);
  const auto loss_of = [&](test::RouterCall<double>& call) {
    const auto column = buffer.column();
    call.outside_counts.assign(column.begin(), column.end());
    return test::loss_of(test::route(router, call), "load_balance");
  };
  CHECK(test::near(loss_of(first), 2));
  buffer.add(counted({4, 0}));
  CHECK(test::near(loss_of(second), 1));
  buffer.add(counted({0, 4}));
  CHECK(std::vector<double>(buffer.column().begin(), buffer.column().end()) == std::vector<double>{4, 4});
  buffer.replace(counted({5, 3}));
  CHECK(std::vector<double>(buffer.column().begin(), buffer.column().end()) == std::vector<double>{5, 3});
  buffer.clear();
  CHECK(test::near(loss_of(second), 2));
}

TEST_CASE("a count buffer refuses other experts, and calls once it was moved from", "[router]") {
  CHECK_THROWS_AS(CountBuffer(0), moe::config_error);
  CountBuffer buffer(3);
  CHECK_THROWS_WITH(buffer.add(counted({1, 2})), "moe: statistics: expected 3 experts, got 2");
  CHECK_THROWS_AS(buffer.add(moe::RouteStats{}), moe::shape_error);
  const CountBuffer taken = std::move(buffer);
  CHECK(taken.experts() == 3);
  CHECK_THROWS_AS(buffer.add(counted({1, 2, 3})), moe::state_error);  // NOLINT(bugprone-use-after-move)
}
