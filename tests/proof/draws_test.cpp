// What is drawn in training: by every layer and every step anew, by the same call the same, and with the
// batch permuted permuted.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/gshard.hpp"
#include "moe/router/named/noisy_top_k.hpp"
#include "moe/router/named/switch.hpp"
#include "support/catch.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::Index;
constexpr Index kTokens = 64, kWidth = 6, kExperts = 4;

template <class Router>
auto layer_of(Router router) {
  router.scorer().initialise(1);
  moe::Glu<moe::Silu> bank({.experts = kExperts, .width = kWidth, .hidden = 5});
  bank.initialise(2);
  return moe::MoeLayer(std::move(router), std::move(bank));
}

std::vector<float> rows() {
  const moe::KeyedRandom draw(3, 0, moe::DrawStream::user);
  std::vector<float> x;
  for (Index t = 0; t < kTokens; ++t) {
    for (Index j = 0; j < kWidth; ++j) {
      x.push_back(
          static_cast<float>(draw.normal(static_cast<std::uint64_t>(t), static_cast<std::uint32_t>(j))));
    }
  }
  return x;
}

/// y, then dx for dy of ones.
template <class Layer>
std::vector<float> train(Layer& layer, const std::vector<float>& x, moe::DrawCounter& draws,
                         const std::vector<std::uint64_t>& key = {}) {
  std::vector<float> result(2 * x.size());
  const std::vector<float> dy(x.size(), 1);
  moe::LayerInput<float> in(moe::ConstMatrixView<float>(x.data(), kTokens, kWidth));
  in.draws = &draws;
  in.row_key = key;
  moe::LayerOutput<float> out(moe::MatrixView<float>(result.data(), kTokens, kWidth));
  typename Layer::Tape tape;
  moe::Workspace workspace;
  layer.forward_train(in, out, tape, workspace);
  typename Layer::LayerGradients back(
      moe::ConstMatrixView<float>(dy.data(), kTokens, kWidth),
      moe::MatrixView<float>(result.data() + kTokens * kWidth, kTokens, kWidth));
  back.auxiliary_scale = 0;
  layer.backward(tape, back, workspace);
  return result;
}

template <class Router>
void check(const Router& router) {
  auto first = layer_of(router), second = layer_of(router);  // equal in all but their place
  const std::vector<float> x = rows();
  moe::DrawCounter draws(9);
  const auto one = train(first, x, draws), other = train(second, x, draws), later = train(first, x, draws);
  CHECK(one != other);
  CHECK(one != later);
  CHECK(other != later);
  CHECK(draws.calls() == 3);
  moe::DrawCounter again(9);
  CHECK(test::same_bits(one, train(first, x, again)));
  CHECK(test::same_bits(other, train(first, x, again)));

  // A row keeps its draws, wherever it stands.
  std::vector<float> reversed;
  std::vector<std::uint64_t> key;
  for (Index t = kTokens - 1; t >= 0; --t) {
    reversed.insert(reversed.end(), x.begin() + t * kWidth, x.begin() + (t + 1) * kWidth);
    key.push_back(static_cast<std::uint64_t>(t));
  }
  again = moe::DrawCounter(9);
  const auto mirrored = train(first, reversed, again, key);
  for (Index t = 0; t < kTokens; ++t) {
    for (const Index part : {Index{0}, kTokens}) {
      const auto a = one.begin() + (part + t) * kWidth;
      const auto b = mirrored.begin() + (part + kTokens - 1 - t) * kWidth;
      CHECK(std::equal(a, a + kWidth, b));
    }
  }
}

}  // namespace

TEST_CASE("no two layers and no two steps draw the same; the same call does", "[proof]") {
  check(moe::switch_router<float>({.width = kWidth, .experts = kExperts, .jitter = 0.2}));
  check(moe::noisy_top_k<float>({.width = kWidth, .experts = kExperts, .k = 2}));
  check(moe::gshard_router<float>({.width = kWidth, .experts = kExperts}));
}
