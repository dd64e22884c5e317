// All that a small layer of given parts computes, to compare parts bit by bit; and parts to compare.
#pragma once

#include <random>
#include <utility>
#include <vector>

#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/kernel/gate.hpp"
#include "moe/layer/frame/latent.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/router/named/top_k.hpp"

namespace test {

using moe::Index;
constexpr Index kEverythingTokens = 9, kEverythingWidth = 6;

inline std::vector<float> random_rows(unsigned seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> rows(kEverythingTokens * kEverythingWidth);
  for (float& v : rows) v = normal(random);
  return rows;
}

/// y, dx and all gradients of one call.
template <class Bank, class Shared, class Frame>
std::vector<float> everything(Bank bank, Shared shared, Frame frame) {
  auto router = moe::softmax_top_k<float>({.width = kEverythingWidth, .experts = bank.experts(), .k = 2});
  router.scorer().initialise(5, 2);
  moe::MoeLayer layer(std::move(router), std::move(bank), moe::Dropless{}, std::move(shared),
                      std::move(frame));
  const std::vector<float> x = random_rows(1), dy = random_rows(2);
  std::vector<float> y(x.size()), dx(x.size());
  moe::LayerOutput<float> out(moe::MatrixView<float>(y.data(), kEverythingTokens, kEverythingWidth));
  typename decltype(layer)::Tape tape;
  moe::Workspace workspace;
  layer.forward_train(
      moe::LayerInput<float>(moe::ConstMatrixView<float>(x.data(), kEverythingTokens, kEverythingWidth)), out,
      tape, workspace);
  auto gradients = layer.make_gradients();
  typename decltype(layer)::LayerGradients all(
      moe::ConstMatrixView<float>(dy.data(), kEverythingTokens, kEverythingWidth),
      moe::MatrixView<float>(dx.data(), kEverythingTokens, kEverythingWidth), gradients);
  layer.backward(tape, all, workspace);
  std::vector<float> result = y;
  result.insert(result.end(), dx.begin(), dx.end());
  layer.visit_storage(gradients,
                      [&](const char*, float*, float* g, Index n) { result.insert(result.end(), g, g + n); });
  return result;
}

using StaticGlu = moe::Glu<moe::AnyGate>;
using StaticMlp = moe::Mlp<moe::AnyActivation>;
using Cheap = moe::ZeroComputation<float>;

inline StaticGlu glu(Index experts, std::uint64_t seed) {
  StaticGlu bank({.experts = experts, .width = kEverythingWidth, .hidden = 5}, moe::AnyGate{});
  bank.initialise(seed);
  return bank;
}
inline StaticMlp mlp() {
  StaticMlp bank({.experts = 4, .width = kEverythingWidth, .hidden = 5, .bias = true},
                 {moe::ActivationKind::relu});
  bank.initialise(4);
  return bank;
}
inline Cheap cheap() {
  Cheap bank({.width = kEverythingWidth, .zero = 1, .copy = 1, .constant = 1});
  bank.initialise(7);
  return bank;
}
inline moe::LatentFrame<float> latent() {
  moe::LatentFrame<float> frame(kEverythingWidth, kEverythingWidth, {.enabled = true});
  frame.initialise(3);
  return frame;
}

}  // namespace test
