#include "moe/layer/call/rollback.hpp"

#include <cstddef>
#include <vector>

#include "support/catch.hpp"

using moe::Index;

TEST_CASE("a call that is not kept leaves draws and counts as they were", "[layer]") {
  moe::DrawCounter draws(3);
  moe::RouteStats stats;
  std::vector<std::byte> memory(1024);
  const auto call = [&](bool keep) {
    moe::Arena arena(memory.data(), static_cast<Index>(memory.size()));
    moe::impl::CallRollback rollback(&draws, &stats, 3, arena);
    draws.advance();
    moe::RouteStats more;
    more.tokens = 2;
    more.elided = 1;
    more.load.assign(3, 4);
    more.gate_mass.assign(3, 0.5);
    stats.add(more);
    if (keep) rollback.keep();
  };
  call(false);
  CHECK(draws.calls() == 0);
  CHECK((stats.tokens == 0 && stats.pairs() == 0));
  stats.require_experts(5);  // nothing is counted, so any number goes
  call(true);
  CHECK(draws.calls() == 1);
  call(false);
  CHECK(draws.calls() == 1);
  CHECK((stats.tokens == 2 && stats.elided == 1 && stats.pairs() == 12));
  CHECK(stats.gate_mass[2] == 0.5);
  moe::Arena arena(memory.data(), static_cast<Index>(memory.size()));
  CHECK_THROWS_AS(moe::impl::CallRollback(&draws, &stats, 4, arena), moe::shape_error);
}
