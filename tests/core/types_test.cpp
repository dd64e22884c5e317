#include "moe/core/types.hpp"

#include <type_traits>

#include "support/catch.hpp"

namespace {

using moe::Coupling;
using moe::Index;

static_assert(std::is_same_v<Index, std::ptrdiff_t> && sizeof(moe::ExpertId) == 4 &&
              sizeof(moe::TokenId) == 4);

TEST_CASE("the weakest coupling is the one with the widest reach", "[core]") {
  const Coupling all[] = {Coupling::row_independent, Coupling::per_segment, Coupling::per_batch};
  for (int a = 0; a < 3; ++a) {
    for (int b = 0; b < 3; ++b) CHECK(moe::weakest(all[a], all[b]) == all[a < b ? b : a]);
  }
}

TEST_CASE("ceil_div and round_up", "[core]") {
  for (Index a = 0; a < 50; ++a) {
    for (Index b = 1; b < 20; ++b) {
      const Index q = moe::ceil_div(a, b);
      CAPTURE(a, b, q);
      CHECK(q * b >= a);
      CHECK((q - 1) * b < a);
      CHECK(moe::round_up(a, b) == q * b);
    }
  }
}

}  // namespace
