#include "moe/depth/layer_calls.hpp"

#include <limits>
#include <vector>

#include "support/catch.hpp"

using moe::Index;

TEST_CASE("a call that is not kept leaves draws and counts as they were", "[depth]") {
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

TEST_CASE("a layer's call borrows the columns of the call around it", "[depth]") {
  moe::LayerInput<double> in;
  in.token_id = std::vector<long>{4, 5};  // converted, into memory of its own
  in.segments = moe::Segments(std::vector<int>{0, 2});
  in.options.temperature = 2;
  const double x[] = {1, 2};
  const moe::LayerInput<double> own = moe::impl::borrow_input(in, moe::ConstMatrixView<double>(x, 2, 1));
  CHECK(own.token_id.data() == in.token_id.data());
  CHECK(own.segments.count(2) == 1);
  CHECK(own.options == in.options);
  CHECK(own.x.data == x);
}

TEST_CASE("a spoiled row is NaN throughout", "[depth]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double row[] = {nan, nan, 1};
  CHECK(moe::impl::is_spoiled(row, 2));
  CHECK_FALSE(moe::impl::is_spoiled(row, 3));
  CHECK_FALSE(moe::impl::is_spoiled(row, 0));
}
