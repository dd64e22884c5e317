#include "moe/depth/layer_calls.hpp"

#include <cstddef>
#include <limits>
#include <tuple>
#include <vector>

#include "moe/layer/call/rollback.hpp"
#include "moe/plan/statistics.hpp"
#include "support/catch.hpp"

using moe::Index;

namespace {

struct Counting {
  Index experts;
  Index counted_experts() const { return experts; }
};
/// Two layers: one of 3 experts, and one around one of 2.
struct Group {
  struct Around {
    Counting own;
    const Counting& layer() const { return own; }
  };
  std::tuple<Counting, Around> own{{3}, {{2}}};
  const auto& layers() const { return own; }
  Index counted_experts() const { return 3; }
};

moe::RouteStats counts(Index experts) {
  moe::RouteStats stats;
  stats.tokens = 2;
  stats.elided = 1;
  stats.load.assign(experts, 4);
  stats.gate_mass.assign(experts, 0.5);
  return stats;
}

}  // namespace

TEST_CASE("a call that is not kept leaves the counts of its layers as they were", "[depth]") {
  const Group group;
  moe::RouteStats stats;
  std::vector<std::byte> memory(4096);
  moe::Arena measuring;
  moe::impl::CallRollback(nullptr, nullptr, moe::impl::LayerCounts{group}, measuring);
  REQUIRE(measuring.bytes() <= static_cast<Index>(memory.size()));
  const auto call = [&](bool keep) {
    moe::Arena arena(memory.data(), static_cast<Index>(memory.size()));
    moe::impl::CallRollback rollback(nullptr, &stats, moe::impl::LayerCounts{group}, arena);
    REQUIRE(stats.layers.size() == 2);
    stats.layers[0].add(counts(3));
    stats.layers[1].add(counts(2));
    stats.add(counts(3));
    if (keep) rollback.keep();
  };
  call(false);
  CHECK((stats.pairs() == 0 && stats.layers[0].pairs() == 0 && stats.layers[1].tokens == 0));
  call(true);
  call(false);
  CHECK((stats.pairs() == 12 && stats.layers[0].pairs() == 12 && stats.layers[1].pairs() == 8));
  CHECK((stats.layers[1].elided == 1 && stats.layers[1].gate_mass[1] == 0.5));
  // Of other layers: refused before anything is written.
  moe::RouteStats other;
  other.layers = {counts(3), counts(4)};
  moe::Arena arena(memory.data(), static_cast<Index>(memory.size()));
  CHECK_THROWS_AS(moe::impl::CallRollback(nullptr, &other, moe::impl::LayerCounts{group}, arena),
                  moe::shape_error);
  other.layers.resize(1);
  CHECK_THROWS_AS(moe::impl::CallRollback(nullptr, &other, moe::impl::LayerCounts{group}, arena),
                  moe::shape_error);
  CHECK((other.layers.size() == 1 && other.load.empty()));
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
