#include "moe/core/probes.hpp"

#include <vector>

#include "support/catch.hpp"

using moe::Index;
using Probes = moe::Probes<double>;

TEST_CASE("probes lie by token or by expert, in what the measuring arena counted", "[probe]") {
  CHECK_FALSE(Probes{});
  for (const bool by_token : {true, false}) {
    const auto carve = [&](moe::Arena& arena) {
      return by_token ? Probes::by_token(arena, 3, 2, 5, 16) : Probes::by_expert(arena, 3, 2, 5, 8);
    };
    moe::Arena measuring;
    carve(measuring);
    std::vector<std::byte> memory(static_cast<std::size_t>(measuring.bytes()));
    moe::Arena arena(memory.data(), measuring.bytes());
    const Probes probes = carve(arena);
    CHECK(probes);
    CHECK(probes.tokens() == 3);
    CHECK(probes.experts() == 2);
    CHECK(probes.width == 5);
    CHECK(probes.size == 48);
    CHECK(probes.of(0, 0) == probes.data);
    CHECK(probes.of(2, 1) - probes.data == (by_token ? 2 * 16 + 5 : 1 * 3 * 8 + 2 * 8));
    for (Index t = 0; t < 3; ++t) {
      for (Index e = 0; e < 2; ++e) {
        for (Index j = 0; j < 5; ++j) probes.of(t, e)[j] = static_cast<double>(100 * t + 10 * e + j);
        probes.response(t, e) = -1;
      }
    }
    for (Index t = 0; t < 3; ++t) {  // nobody lies on another
      for (Index e = 0; e < 2; ++e) {
        for (Index j = 0; j < 5; ++j) CHECK(probes.of(t, e)[j] == static_cast<double>(100 * t + 10 * e + j));
      }
    }
  }
  moe::Arena arena;
  CHECK_THROWS_AS(Probes::by_expert(arena, Index{1} << 40, Index{1} << 20, 4, 16), moe::size_error);
}
