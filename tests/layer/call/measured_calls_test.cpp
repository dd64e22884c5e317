#include "moe/layer/call/measured_calls.hpp"

#include <array>
#include <cstddef>
#include <span>
#include <string>

#include "moe/core/check.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace {

using moe::Arena;
using moe::CallShape;
using moe::Index;
using moe::Mode;

/// Takes 100 cache lines in inference, `taped` in a forward that trains, `back` in its backward.
template <bool kTrains>
struct Lines : moe::impl::MeasuredCalls<Lines<kTrains>> {
  static constexpr bool kTrainable = kTrains;
  Index taped = 200, back = 300;

  static void take(Arena& arena, Index lines) { arena.take<std::byte>(lines * moe::kAlignment); }
  void measure_forward(Arena& arena, const CallShape& shape, Mode mode, Index workers) const {
    take(arena, (mode == Mode::training ? taped : 100) * shape.tokens * workers);
  }
  void measure_backward(Arena& arena, const CallShape& shape, Index workers) const {
    take(arena, back * shape.tokens * workers);
  }
  using Measured = moe::impl::MeasuredCalls<Lines<kTrains>>;
  using Measured::backward_arena;
  using Measured::forward_arena;
};

/// Of a workspace_bytes, without the slack for a block of any alignment.
Index lines_of(Index bytes) {
  return bytes / moe::kAlignment - 1;
}

}  // namespace

TEST_CASE("a call's bytes: of training the most that forward or backward take", "[layer]") {
  const Lines<true> both;
  CHECK(lines_of(both.workspace_bytes(1)) == 100);
  CHECK(lines_of(both.workspace_bytes(CallShape{2, 2}, Mode::inference, 3)) == 600);
  CHECK(lines_of(both.workspace_bytes(2, Mode::training)) == 600);
  Lines<true> forward;
  forward.taped = 500;
  CHECK(lines_of(forward.workspace_bytes(1, Mode::training)) == 500);
  CHECK(lines_of(Lines<false>{}.workspace_bytes(1, Mode::training)) == 200);
}

TEST_CASE("a call takes what it measures, and refuses a workspace that has less", "[layer]") {
  const Lines<true> layer;
  std::array<std::byte, 300 * moe::kAlignment> block;  // one line short of a backward's
  moe::Workspace fixed{std::span<std::byte>(block)}, own;
  CHECK_NOTHROW(layer.forward_arena(fixed, {1, 1}, Mode::training, 1));
  CHECK(test::message_of<moe::workspace_error>([&] {
          layer.backward_arena(fixed, {1, 1}, 1);
        }) == "moe: workspace: expected at least " + std::to_string(301 * moe::kAlignment) +
                  " bytes for training with 1 worker, got " + std::to_string(300 * moe::kAlignment) +
                  "; ask workspace_bytes(shape, Mode::training, 1)");
  Arena arena = layer.backward_arena(own, {1, 1}, 1);
  CHECK_NOTHROW(layer.take(arena, 300));
  CHECK_THROWS_AS(layer.take(arena, 2), moe::workspace_error);
}
