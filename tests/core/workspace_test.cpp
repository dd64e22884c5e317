#include "moe/core/workspace.hpp"

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/errors.hpp"

namespace {

using moe::Arena;
using moe::Index;
using moe::Workspace;

bool aligned(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % moe::kAlignment == 0;
}

/// A stage: what it takes in measure mode and in earnest is the same code. Fills what it got.
struct Stage {
  char* a;
  double* b;
  bool* c;
  Stage(Arena& arena, Index n)
      : a(arena.take<char>(n)), b(arena.take<double>(3 * n)), c(arena.take<bool>(1)) {}
  void fill(Index n) const {
    std::memset(a, 1, static_cast<std::size_t>(n));
    for (Index i = 0; i < 3 * n; ++i) b[i] = 2;
    *c = true;
  }
};

TEST_CASE("Arena: measuring counts and hands out nothing", "[core][smoke]") {
  Arena arena;
  CHECK(arena.measuring());
  CHECK(arena.bytes() == moe::kAlignment);  // the slack for a block of any alignment
  CHECK(arena.take<char>(1) == nullptr);
  CHECK(arena.bytes() == 2 * moe::kAlignment);
  CHECK(arena.take<char>(0) == nullptr);
  CHECK(arena.bytes() == 2 * moe::kAlignment);
  CHECK(arena.take<double>(8) == nullptr);
  CHECK(arena.bytes() == 3 * moe::kAlignment);
  CHECK(arena.take<char>(65) == nullptr);
  CHECK(arena.bytes() == 5 * moe::kAlignment);
}

TEST_CASE("Arena: measured bytes suffice at every alignment of the block, arrays do not meet",
          "[core][smoke]") {
  for (const Index n : {1, 5, 8, 63, 64, 65, 200}) {
    Arena measuring;
    Stage first_measured(measuring, n);
    Stage second_measured(measuring, n + 1);
    const auto bytes = static_cast<std::size_t>(measuring.bytes());
    for (std::size_t skew = 0; skew < 64; ++skew) {
      // A block of its own size, so that the address sanitizer sees a byte too far.
      std::vector<std::byte> memory(bytes + skew);
      Arena arena(memory.data() + skew, measuring.bytes());
      CHECK(!arena.measuring());
      const Stage first(arena, n);
      const Stage second(arena, n + 1);
      REQUIRE((aligned(first.a) && aligned(first.b) && aligned(first.c) && aligned(second.b)));
      CHECK(arena.bytes() == measuring.bytes());
      first.fill(n);
      second.fill(n + 1);
      Index wrong = 0;
      for (Index i = 0; i < n; ++i) wrong += first.a[i] != 1;
      for (Index i = 0; i < 3 * n; ++i) wrong += first.b[i] != 2;
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("Arena: bytes() is the peak over marks and rewinds", "[core][smoke]") {
  Arena arena;
  arena.take<char>(64);
  const Index mark = arena.mark();
  CHECK(mark == 64);
  arena.take<char>(10 * 64);
  arena.rewind(mark);
  CHECK(arena.mark() == 64);
  arena.take<char>(3 * 64);
  CHECK(arena.bytes() == 12 * 64);
  arena.take<char>(8 * 64);
  CHECK(arena.bytes() == 13 * 64);
  arena.rewind(0);
  CHECK(arena.mark() == 0);
  CHECK(arena.bytes() == 13 * 64);
}

TEST_CASE("Arena: what is given back is handed out again", "[core][smoke]") {
  alignas(64) std::byte block[256];
  Arena arena(block, 256);
  arena.take<int>(1);
  const Index mark = arena.mark();
  float* const once = arena.take<float>(4);
  arena.rewind(mark);
  CHECK(arena.take<float>(16) == once);
}

TEST_CASE("Arena: too small a block", "[core][smoke]") {
  alignas(64) std::byte block[129];
  Arena arena(block, 128);
  arena.take<char>(1);
  arena.take<char>(64);
  CHECK(test::message_of<moe::workspace_error>([&] { arena.take<char>(1); }) ==
        "moe: workspace: expected at least 129 bytes, got 128");
  Arena skewed(block + 1, 128);
  skewed.take<char>(1);
  CHECK(test::message_of<moe::workspace_error>([&] { skewed.take<char>(2); }) ==
        "moe: workspace: expected at least 129 bytes, got 128");
  Arena none(nullptr, 0);
  CHECK(!none.measuring());
  CHECK_THROWS_AS(none.take<char>(1), moe::workspace_error);
}

TEST_CASE("Arena: sizes beyond Index", "[core][smoke]") {
  Arena arena;
  CHECK_THROWS_AS(arena.take<double>(-1), moe::size_error);
  CHECK_THROWS_AS(arena.take<double>(PTRDIFF_MAX / 8 + 1), moe::size_error);
  CHECK_THROWS_AS(arena.take<char>(PTRDIFF_MAX), moe::size_error);
  arena.take<char>(PTRDIFF_MAX / 2);
  CHECK_THROWS_AS(arena.take<char>(PTRDIFF_MAX / 2), moe::size_error);
  CHECK(arena.bytes() > 0);
}

TEST_CASE("Workspace grows, and only grows", "[core][smoke]") {
  Workspace workspace;
  Arena first = workspace.arena(1000);
  char* const data = first.take<char>(900);
  std::memset(data, 0, 900);
  Arena second = workspace.arena(500);
  CHECK(second.take<char>(900) == data);
  Arena third = workspace.arena(100000);
  std::memset(third.take<char>(100000 - 64), 0, 100000 - 64);

  Workspace reserved;
  reserved.reserve(5000);
  char* const kept = reserved.arena(64).take<char>(4000);
  CHECK(reserved.arena(5000).take<char>(1) == kept);
}

TEST_CASE("Workspace: one of 0 bytes hands out nothing", "[core][smoke]") {
  Workspace workspace;
  Arena arena = workspace.arena(0);
  CHECK_THROWS_AS(arena.take<char>(1), moe::workspace_error);
}

TEST_CASE("Workspace: fixed block", "[core][smoke]") {
  std::vector<std::byte> memory(1000 + 1);
  for (const std::size_t skew : {0u, 1u}) {
    const std::span<std::byte> block(memory.data() + skew, 1000);
    Workspace workspace(block);
    Arena arena = workspace.arena(1000);
    char* const data = arena.take<char>(1000 - 63);
    CHECK(aligned(data));
    CHECK(reinterpret_cast<std::byte*>(data) >= block.data());
    CHECK(reinterpret_cast<std::byte*>(data) + 1000 - 63 <= block.data() + block.size());
    CHECK(test::message_of<moe::workspace_error>([&] { workspace.arena(1001); }) ==
          "moe: workspace: expected at least 1001 bytes, got 1000; ask workspace_bytes()");
    workspace.arena(1000, moe::Mode::inference, 1);
    CHECK(test::message_of<moe::workspace_error>([&] { workspace.arena(1001, moe::Mode::inference, 1); }) ==
          "moe: workspace: expected at least 1001 bytes for inference with 1 worker, got 1000; ask "
          "workspace_bytes(shape, Mode::inference, 1)");
    CHECK(test::message_of<moe::workspace_error>([&] { workspace.arena(1001, moe::Mode::training, 4); }) ==
          "moe: workspace: expected at least 1001 bytes for training with 4 workers, got 1000; ask "
          "workspace_bytes(shape, Mode::training, 4)");
  }
}

TEST_CASE("Workspace: an empty fixed block stays fixed", "[core][smoke]") {
  Workspace workspace{std::span<std::byte>()};
  CHECK_THROWS_AS(workspace.arena(1), moe::workspace_error);
  CHECK_THROWS_AS(workspace.reserve(64), moe::workspace_error);
}

}  // namespace
