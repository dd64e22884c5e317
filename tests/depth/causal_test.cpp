// The rows to come change nothing of a row's result: every depth layer that docs/catalogue.md calls causal,
// over a block that looks back. tests/depth/mixture_of_depths_test.cpp and recursion_test.cpp have the ones
// that are causal in inference alone.
#include "moe/depth/flexi_depth.hpp"
#include "moe/depth/informed_routing.hpp"
#include "moe/depth/learn_to_skip.hpp"
#include "moe/depth/paths.hpp"
#include "moe/depth/recursion.hpp"
#include "moe/depth/router_tuning.hpp"

#include "support/catch.hpp"
#include "support/depth_call.hpp"
#include "support/past_block.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::Index;
using test::PastBlock;

/// `in_training`: the rows of a training call are chosen, and computed, each for itself too.
template <class L>
void check_causal(const char* name, L layer, std::uint64_t seed) {
  CAPTURE(name);
  test::draw_all_parameters(layer, seed, 1.5);
  for (const bool training : {false, true}) {
    test::DepthCall now(12, 3, {0, 4, 12}), later(12, 3, {0, 4, 12});
    for (std::size_t i = 24; i < 36; ++i) later.x[i] = 1 - 2 * later.x[i];  // rows 8 to 11
    if (training) {
      now.train(layer);
      later.train(layer);
    } else {
      now.forward(layer);
      later.forward(layer);
    }
    Index moved = 0;
    for (Index t = 0; t < 12; ++t) {
      if (t < 8) CHECK(test::same_bits(now.row(now.y, t), later.row(later.y, t)));
      moved += test::same_bits(now.row(now.y, t), now.row(now.x, t)) ? 0 : 1;
    }
    CHECK(moved > 0);
  }
}

}  // namespace

TEST_CASE("depth layers that choose row by row do not look ahead", "[depth]") {
  check_causal("learn_to_skip", moe::learn_to_skip({.width = 3}, PastBlock(3)), 1);
  check_causal("token_router_tuning", moe::token_router_tuning({.width = 3}, PastBlock(3)), 2);
  check_causal("flexi_depth",
               moe::flexi_depth({.width = 3, .bottleneck = 2, .adapter_hidden = 2}, PastBlock(3)), 3);
  check_causal("informed_routing", moe::informed_routing({.width = 3, .hidden = 2, .rank = 1}, PastBlock(3)),
               4);
  check_causal("dna", moe::dna({.width = 3, .steps = 3, .k = 2}, PastBlock(3), PastBlock(3, 0.5, false)), 5);
  check_causal("token_recursions", moe::token_recursions({.width = 3, .depths = 3}, PastBlock(3)), 6);
}
