#include "moe/router/named/block_ffn.hpp"

#include <cmath>
#include <limits>

#include "moe/router/balance/activation_locality.hpp"
#include "moe/router/balance/chunk_sparsity.hpp"
#include "moe/router/score/relu_rms.hpp"
#include "support/balance_case.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::ActivationLocality;
using moe::ChunkSparsity;
using moe::Index;
using test::BalanceCase;
using test::near;

const test::RouterCases kCases{
    // Rows of zeros have no expert. A steepness of 100 bends within a step of the differences.
    {"BlockFfnRouter",
     [] {
       return moe::block_ffn_router<double>({.width = 4,
                                             .experts = 6,
                                             .locality = {.coefficient = 0.3, .steepness = 2},
                                             .chunks = {.coefficient = 0.5, .length = 3}});
     },
     {.laws = {.parameters = false}, .ties = false, .step = 1e-4}},
    {"BlockFfnRouter, float",
     [] { return moe::block_ffn_router<float>({.width = 5, .experts = 9}); },
     {.laws = {.parameters = false}, .ties = false}},
};

/// Logits as rows, no losses.
auto reader(Index experts, double eps) {
  auto router = moe::block_ffn_router<double>({.width = experts,
                                               .experts = experts,
                                               .eps = eps,
                                               .locality = {.coefficient = 0},
                                               .chunks = {.coefficient = 0}});
  test::set_parameter(router, "gate.weight", test::identity(experts));
  return router;
}

}  // namespace

TEST_CASE("positive logits over the root mean square of all, zeros stay zero, by hand", "[block_ffn]") {
  auto router = reader(3, 1e-300);
  auto call = test::call_of({{3, 0, 4}, {-1, -2, 0}, {-5, 2, -7}});
  const auto routed = test::route(router, call);
  const double rms = std::sqrt(25.0 / 3);
  test::check_pairs(routed, 0, {2, 0}, {4 / rms, 3 / rms});
  CHECK(std::abs(routed.weight[1] - 1.0392) < 5e-5);
  test::check_pairs(routed, 1, {}, {});
  test::check_pairs(routed, 2, {1}, {std::sqrt(3.0)});  // whatever its size
}

TEST_CASE("the trained gain weighs and does not choose, whatever its sign", "[block_ffn]") {
  auto router = reader(3, 1e-6);
  const auto call = test::call_of({{3, 1, 4}});
  const auto before = test::route(router, call);
  test::set_parameter(router, "per_expert_scale", {{-2}, {0}, {1}});
  const auto after = test::route(router, call);
  CHECK(after.expert == before.expert);
  test::check_pairs(after, 0, {2, 0, 1}, {before.weight[0], -2 * before.weight[1], 0});
}

TEST_CASE("no gradient passes through the norm to a logit that is not positive", "[block_ffn]") {
  auto router = reader(4, 1e-6);
  auto call = test::call_of({{3, -1, 4, 0}});
  call.training = true;
  decltype(router)::Tape tape;
  test::OwnedTable<double> table(router, call.shape());
  test::route_train(router, call, table, tape);
  const auto dx = test::backward(router, call, table, tape, {1, -2}, 0, nullptr);
  CHECK((dx[0] != 0 && dx[1] == 0 && dx[2] != 0 && dx[3] == 0));
}

TEST_CASE("a chunk counts the experts that it touches, by hand", "[block_ffn]") {
  // Two chunks of two tokens: one touches expert 0 alone, the other one both for sure.
  BalanceCase c(4, 2, 1);
  c.score = {5, 0, 2, 0, 0, 1, 3, 0};
  CHECK(std::abs(c.loss(ChunkSparsity({.coefficient = 1, .length = 2})) - 0.75) < 1e-4);
  // Half on each expert in a chunk of two: an expert is left alone with probability 1/4.
  BalanceCase half(2, 2, 1);
  half.score = {3, 3, 1, 1};
  CHECK(std::abs(half.loss(ChunkSparsity({.coefficient = 1, .length = 2})) - 0.75) < 1e-4);
  CHECK(std::abs(half.loss(ChunkSparsity({.coefficient = 1, .length = 1})) - 0.5) < 1e-4);
}

TEST_CASE("chunks and neighbours end with their segment", "[block_ffn]") {
  const ChunkSparsity chunks({.coefficient = 1, .length = 64});
  const ActivationLocality locality({.coefficient = 1});
  BalanceCase c(4, 2, 1);
  c.score = {1, 0, 1, 0, 0, 1, 0, 1};
  c.logit = {1, -1, 1, -1, -1, 1, -1, 1};
  CHECK(std::abs(c.loss(chunks) - 1) < 1e-4);
  CHECK(c.loss(locality) > 30);  // one pair of three is opposite, by 100 times 1
  const std::vector<Index> offsets{0, 2, 4};
  c.call.segments = moe::Segments(offsets);
  CHECK(std::abs(c.loss(chunks) - 0.5) < 1e-4);
  CHECK(c.loss(locality) < 1e-40);
}

TEST_CASE("chunk and locality losses skip rows that take no part; gradients match differences",
          "[block_ffn]") {
  const ChunkSparsity chunks({.coefficient = 0.7, .length = 3});
  const ActivationLocality locality({.coefficient = 0.7, .steepness = 1.5});
  BalanceCase c = test::random_balance_case(11, 5, 2, 4);
  const std::vector<Index> offsets{0, 7, 11};
  c.call.segments = moe::Segments(offsets);
  const double before = c.loss(chunks), locality_before = c.loss(locality);
  for (Index e = 0; e < 5; ++e) {
    c.score[static_cast<std::size_t>(10 + e)] = 100;
    c.logit[static_cast<std::size_t>(10 + e)] = 100;
  }
  CHECK(!c.active[2]);
  CHECK(c.loss(chunks) == before);
  CHECK(c.loss(locality) == locality_before);
  c = test::random_balance_case(11, 5, 2, 4);
  c.call.segments = moe::Segments(offsets);
  test::check_array_gradient(chunks, c, -1.5, &BalanceCase::score, &BalanceCase::Gradients::score);
  test::check_array_gradient(locality, c, -1.5, &BalanceCase::logit, &BalanceCase::Gradients::logit);
  c.logit[0] = -std::numeric_limits<double>::infinity();  // masked
  CHECK(c.gradients(locality).logit[0] == 0);
  BalanceCase none(3, 2, 1);
  none.active.fill(false);
  CHECK((none.loss(chunks) == 0 && none.loss(locality) == 0));
}

TEST_CASE("options of BlockFFN's router are checked", "[block_ffn]") {
  CHECK_THROWS_WITH(moe::ReluRmsScore({.eps = 0}), "moe: score eps: expected a finite value > 0, got 0");
  CHECK_THROWS_WITH(ChunkSparsity({.length = 0}),
                    "moe: chunk length: expected a value in [1, 9223372036854775807], got 0");
  CHECK_THROWS_AS(ActivationLocality({.steepness = 0}), moe::config_error);
  CHECK_THROWS_AS(ActivationLocality({.coefficient = std::nan("")}), moe::config_error);
  CHECK_THROWS_AS(ChunkSparsity({.coefficient = std::nan("")}), moe::config_error);
  CHECK_THROWS_AS(moe::block_ffn_router<double>({.width = 4, .experts = 0}), moe::config_error);
}
