#include "moe/depth/chain_of_experts.hpp"

#include <cmath>
#include <vector>

#include "moe/expert/bank/mlp.hpp"
#include "moe/kernel/activation.hpp"
#include "support/catch.hpp"
#include "support/depth_calls.hpp"
#include "support/layer_laws.hpp"

namespace {

using moe::Index;
using Bank = moe::Mlp<moe::Silu, double>;

constexpr Index kWidth = 4, kExperts = 3;

moe::ChainOfExpertsOptions options(Index steps) {
  return {.steps = steps, .router = {.width = kWidth, .experts = kExperts, .k = 2}};
}
Bank bank() {
  return Bank({.experts = kExperts, .width = kWidth, .hidden = 3});
}

}  // namespace

TEST_CASE("Chain-of-Experts keeps the laws of layers, three steps back by differences", "[depth]") {
  static Bank experts = bank();
  test::check_layer(
      "chain of experts", [] { return moe::chain_of_experts(options(3), experts); },
      [] { return moe::chain_of_experts(options(2), experts); });
}

TEST_CASE("Chain-of-Experts is its recurrence in plain loops", "[depth][smoke]") {
  Bank experts = bank();
  auto chain = moe::chain_of_experts(options(3), experts);
  test::draw_parameters(chain, 5);
  const test::Values x = test::normal_rows(6, 5, kWidth);
  test::Values y(x.size());
  moe::LayerOutput<double> out(test::rows_of(y, kWidth));
  moe::Workspace workspace;
  chain.forward(test::rows_of(x, kWidth), out, workspace);
  for (Index t = 0; t < 5; ++t) {
    auto h = test::plain_row(x, t, kWidth);
    for (int step = 0; step < 3; ++step) {
      const test::PlainMixture mixture(chain, "step" + std::to_string(step) + ".", "step0.", 2);
      const auto z = mixture(h);
      for (std::size_t j = 0; j < h.size(); ++j) h[j] += z[j];
    }
    const test::Values actual(y.begin() + t * kWidth, y.begin() + (t + 1) * kWidth);
    // Sums of 4 and 3 terms, a softmax and 2 experts, three times; factors of the layers are of order 1.
    CHECK(test::close_rows(actual, h, 1e-13));
  }
}

TEST_CASE("Chain-of-Experts refuses options that make none", "[depth]") {
  Bank experts = bank();
  CHECK_THROWS_AS(moe::chain_of_experts(options(0), experts), moe::config_error);
  auto other = options(2);
  other.router.experts = kExperts + 1;
  CHECK_THROWS_AS(moe::chain_of_experts(other, experts), moe::config_error);
  other = options(2);
  other.router.load_balance = std::nan("");
  CHECK_THROWS_AS(moe::chain_of_experts(other, experts), moe::config_error);
}
