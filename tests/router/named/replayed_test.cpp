#include "moe/router/named/replayed.hpp"

#include <limits>
#include <string>
#include <type_traits>

#include "moe/router/named/deepseek.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::ExpertId;
using moe::Index;
using test::near;

auto plain(double load_balance = 0.3) {
  return moe::top_k_softmax<double>({.width = 4, .experts = 6, .k = 3, .load_balance = load_balance});
}
auto grouped() {
  return moe::deepseek_v3<double>({.width = 4,
                                   .experts = 8,
                                   .k = 3,
                                   .groups = 4,
                                   .kept_groups = 2,
                                   .sequence_balance = 0.2,
                                   .bias_speed = 0.3});
}

const test::RouterCases kCases{
    {"ReplayedRouter of a top-k", [] { return moe::replayed(plain()); }},
    {"ReplayedRouter of groups", [] { return moe::replayed(grouped()); }},
};

/// Rows [T, width], -1 behind their ids.
std::vector<ExpertId> column_of(const test::Routed<double>& routed, Index width) {
  std::vector<ExpertId> all;
  for (Index t = 0; t < routed.tokens(); ++t) {
    const auto ids = routed.experts_of(t);
    all.insert(all.end(), ids.begin(), ids.end());
    all.resize(static_cast<std::size_t>((t + 1) * width), -1);
  }
  return all;
}

/// A call whose rows replay two experts or less that are not the best.
test::RouterCall<double> replaying_call(Index tokens, std::uint64_t seed) {
  auto call = test::random_call<double>(tokens, 4, seed);
  for (const std::uint64_t key : call.key) {
    auto& ids = call.columns.ids["replay"];
    const auto first = static_cast<ExpertId>(key % 6);
    ids.push_back(key % 5 == 0 ? -1 : first);
    ids.push_back(key % 3 == 0 ? -1 : (first + 2) % 6);
    ids.push_back(-1);
  }
  return call;
}

}  // namespace

TEST_CASE("a router that replays its own routes gives the same bits, forward and backward", "[replay]") {
  const auto check = [](auto router, Index outputs) {
    test::randomise(router, 3);
    if constexpr (std::is_same_v<decltype(router), moe::DeepSeekV3<double>>) {
      moe::RouteStats stats;
      stats.load.assign(outputs, 0);
      stats.load[0] = 15, stats.load[4] = 7;
      stats.gate_mass.assign(outputs, 0);
      stats.tokens = 22;
      router.on_step_end(stats);  // a bias that chooses
    }
    auto again = moe::replayed(router);
    auto call = test::random_call<double>(70, 4, 8);
    call.training = true;
    const auto routed = test::route(router, call);
    CHECK(test::same_route(routed, test::route(again, call)));  // without a column: the inner selection
    const auto gradients = test::all_gradients(router, call);
    call.columns.ids["replay"] = column_of(routed, 5);
    CHECK(test::same_route(routed, test::route(again, call)));
    CHECK(test::same_bits(gradients, test::all_gradients(again, call)));
  };
  check(plain(), 6);
  check(grouped(), 8);
}

TEST_CASE("after a change of the weights: the same experts, a softmax of the live logits over them",
          "[replay]") {
  auto router = moe::replayed(plain(0));
  test::randomise(router, 3);
  auto call = test::random_call<double>(50, 4, 2);
  const auto before = test::route(router, call);
  test::randomise(router, 4);
  const auto free = test::route(router, call);
  CHECK(free.expert != before.expert);
  call.columns.ids["replay"] = column_of(before, 3);
  const auto after = test::route(router, call);
  CHECK(after.expert == before.expert);
  const test::Matrix logit = test::linear(test::parameter(router, "gate.weight"), call);
  for (Index t = 0; t < 50; ++t) {
    test::Vector chosen;
    for (const ExpertId e : before.experts_of(t)) {
      chosen.push_back(logit[static_cast<std::size_t>(t)][static_cast<std::size_t>(e)]);
    }
    test::check_pairs(after, t, before.experts_of(t), test::softmax(chosen));
    CHECK(!near(after.weights_of(t)[0], before.weights_of(t)[0]));
  }
}

TEST_CASE("groups and biases have no say in a replay, and a row may have fewer experts or none", "[replay]") {
  auto router = moe::replayed(grouped());
  test::randomise(router, 3);
  auto call = test::random_call<double>(4, 4, 2);
  call.columns.ids["replay"] = {0, 2,  4,  // of three groups
                                7, -1, 3, -1, 1, 2, 6, 5, -1};
  const auto routed = test::route(router, call);
  CHECK(routed.experts_of(0) == std::vector<ExpertId>{0, 2, 4});
  CHECK(routed.experts_of(1) == std::vector<ExpertId>{7});
  CHECK(routed.experts_of(2).empty());
  CHECK(routed.experts_of(3) == std::vector<ExpertId>{6, 5});
}

TEST_CASE("replayed routes obey the laws of routers, with gradients through the live scores", "[replay]") {
  auto router = moe::replayed(plain());
  test::randomise(router, 5);
  test::check_router_laws<decltype(router)>(router, replaying_call, {.masks = false});
  test::check_router_gradients(router, 5, replaying_call);
  test::check_router_gradients(router, 5, replaying_call, {.weight_scale = 0});
}

TEST_CASE("columns that cannot be replayed are refused", "[replay]") {
  const auto router = moe::replayed(plain());
  auto call = test::random_call<double>(2, 4, 2);
  const auto refused = [&](std::vector<ExpertId> ids) {
    call.columns.ids["replay"] = std::move(ids);
    try {
      test::route(router, call);
    } catch (const moe::route_error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(refused({0, 1, 4, 5}).empty());
  CHECK(refused({0, 1, 6, 2}) == "moe: replay: expected expert ids in [0, 6) or -1, got 6 for token 1");
  CHECK(refused({-2, 1, 0, 2}) == "moe: replay: expected expert ids in [0, 6) or -1, got -2 for token 0");
  CHECK(refused({0, 1, 3, 3}) == "moe: replay: expected every expert once, got 3 twice for token 1");
  CHECK(refused({0, 1, 2, 3, 0, 1, 2, -1}) ==
        "moe: replay: expected at most 3 experts (the inner selection), got 4 for token 0");
  CHECK(refused({0, 1, 2, -1, 0, 1, 2, -1}).empty());
  call.valid.assign(2, true);
  call.valid[1] = false;
  CHECK(refused({0, 1, 9, 9}).empty());  // padding is not read
  call.valid.assign(2, true);
  call.mask = {0, 0, 0, 0, -std::numeric_limits<double>::infinity(), 0};
  CHECK(refused({0, 1, 2, 4}) ==
        "moe: replay: expected experts that logit_mask leaves open, got 4 for token 1");
  call.mask.clear();
  call.options.experts_per_token = 2;
  CHECK(refused({0, 1, 2, 0, 1, 2}) ==
        "moe: replay: expected at most 2 experts (the inner selection), got 3 for token 0");

  auto in = call.input();
  test::OwnedTable<double> table(router, call.shape());
  test::MeasuredMemory memory([&](moe::Arena& a) { router.measure(a, call.shape(), 1); });
  moe::Arena arena = memory.arena();
  moe::SerialExecutor executor;
  const std::vector<ExpertId> ids(3, 1);
  in.replay = {ids.data(), 3, 1};
  CHECK_THROWS_WITH(router.route(in, *table, arena, executor), "moe: replay: expected 2 rows, got 3");
  in.replay = {ids.data(), 2, 0};
  CHECK_THROWS_AS(router.route(in, *table, arena, executor), moe::shape_error);
}
