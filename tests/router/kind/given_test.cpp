// Routes handed in come out as they are, padding left out; what is wrong with them stage 2 says
// (tests/proof/bad_input_test.cpp).
#include "moe/router/kind/given.hpp"

#include "support/catch.hpp"

TEST_CASE("given routes fill the table", "[router][smoke]") {
  const moe::ExpertId ids[] = {2, 0, 1, 3, 0, 1};
  const double weights[] = {0.5, 0.25, 1, 2, 3, 4};
  const moe::GivenRoutes<double> router({ids, 3, 2}, {weights, 3, 2}, 4);
  CHECK(router.experts() == 4);
  CHECK(router.max_pairs({.tokens = 3}) == 6);
  const double rows[3] = {};
  const bool valid[] = {true, false, true};
  moe::RouterInput<double> in;
  in.x = {rows, 3, 1};
  in.valid = valid;
  moe::Workspace workspace;
  moe::Arena arena = workspace.arena(4096);
  auto table = moe::RouteTable<double>::carve(arena, 3, 4, 6);
  moe::SerialExecutor serial;
  router.route(in, table, arena, serial);
  REQUIRE(table.pairs() == 4);
  CHECK(table.count(1) == 0);
  CHECK(table.expert[0] == 2);
  CHECK(table.expert[3] == 1);
  CHECK(table.weight[2] == 3);
  CHECK_THROWS_AS(moe::GivenRoutes<double>({ids, 3, 2}, {weights, 2, 3}, 4), moe::shape_error);
  in.x = {rows, 2, 1};
  CHECK_THROWS_AS(router.route(in, table, arena, serial), moe::shape_error);
}
