// Parts chosen at run time give the bits of the static ones, forward and backward.
#include "moe/models/any/any_parts.hpp"

#include <random>
#include <vector>

#include "moe/layer/moe_layer.hpp"
#include "moe/layer/shared/none.hpp"
#include "moe/layer/shared/shared_experts.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"

namespace {

using moe::Index;
using namespace moe::models;
using View = moe::MatrixView<float>;
using ConstView = moe::ConstMatrixView<float>;
constexpr Index kTokens = 9, kWidth = 6;

std::vector<float> random_rows(unsigned seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> rows(kTokens * kWidth);
  for (float& v : rows) v = normal(random);
  return rows;
}

/// y, dx and all gradients of one call.
template <class Bank, class Shared, class Frame>
std::vector<float> everything(Bank bank, Shared shared, Frame frame) {
  auto router = moe::softmax_top_k<float>({.width = kWidth, .experts = bank.experts(), .k = 2});
  router.scorer().initialise(5, 2);
  moe::MoeLayer layer(std::move(router), std::move(bank), moe::Dropless{}, std::move(shared),
                      std::move(frame));
  const std::vector<float> x = random_rows(1), dy = random_rows(2);
  std::vector<float> y(x.size()), dx(x.size());
  moe::LayerOutput<float> out(View(y.data(), kTokens, kWidth));
  typename decltype(layer)::Tape tape;
  moe::Workspace workspace;
  layer.forward_train(moe::LayerInput<float>(ConstView(x.data(), kTokens, kWidth)), out, tape, workspace);
  auto gradients = layer.make_gradients();
  typename decltype(layer)::LayerGradients all(ConstView(dy.data(), kTokens, kWidth),
                                               View(dx.data(), kTokens, kWidth), gradients);
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

StaticGlu glu(Index experts, std::uint64_t seed) {
  StaticGlu bank({.experts = experts, .width = kWidth, .hidden = 5}, moe::AnyGate{});
  bank.initialise(seed);
  return bank;
}
StaticMlp mlp() {
  StaticMlp bank({.experts = 4, .width = kWidth, .hidden = 5, .bias = true}, {moe::ActivationKind::relu});
  bank.initialise(4);
  return bank;
}
Cheap cheap() {
  Cheap bank({.width = kWidth, .zero = 1, .copy = 1, .constant = 1});
  bank.initialise(7);
  return bank;
}
moe::LatentFrame<float> latent() {
  moe::LatentFrame<float> frame(kWidth, kWidth, {.enabled = true});
  frame.initialise(3);
  return frame;
}

}  // namespace

TEST_CASE("banks chosen at run time", "[models]") {
  const moe::NoShared none;
  const moe::IdentityFrame identity;
  CHECK(everything(AnyBank<float>(FeedForward<float>(glu(4, 1))), none, identity) ==
        everything(glu(4, 1), none, identity));
  CHECK(everything(AnyBank<float>(FeedForward<float>(mlp())), none, identity) ==
        everything(mlp(), none, identity));
  using Erased = moe::Composite<FeedForward<float>, Cheap>;
  using Static = moe::Composite<StaticGlu, Cheap>;
  CHECK(everything(AnyBank<float>(Erased(FeedForward<float>(glu(3, 1)), cheap())), none, identity) ==
        everything(Static(glu(3, 1), cheap()), none, identity));
  FeedForward<float> bank = glu(2, 1);
  CHECK(bank.get_if<StaticGlu>() != nullptr);
  CHECK(bank.get_if<StaticMlp>() == nullptr);
}

TEST_CASE("shared experts chosen at run time", "[models]") {
  const moe::IdentityFrame identity;
  CHECK(everything(glu(4, 1), AnyShared<float>(), identity) ==
        everything(glu(4, 1), moe::NoShared{}, identity));
  for (const bool gated : {false, true}) {
    using Erased = moe::SharedExperts<FeedForward<float>>;
    using Static = moe::SharedExperts<StaticGlu>;
    CHECK(everything(glu(4, 1), AnyShared<float>(Erased(FeedForward<float>(glu(1, 2)), gated)), identity) ==
          everything(glu(4, 1), Static(glu(1, 2), gated), identity));
  }
  AnyShared<float> none;
  CHECK((none.get() == nullptr && none.width() == 0));
}

TEST_CASE("frames chosen at run time", "[models]") {
  const moe::NoShared none;
  CHECK(everything(glu(4, 1), none, AnyFrame(moe::IdentityFrame{})) ==
        everything(glu(4, 1), none, moe::IdentityFrame{}));
  CHECK(everything(glu(4, 1), none, AnyFrame(moe::ScaledFrame<float>(kWidth, 2))) ==
        everything(glu(4, 1), none, moe::ScaledFrame<float>(kWidth, 2)));
  CHECK(everything(glu(4, 1), none, AnyFrame(moe::OutputBias<float>(kWidth))) ==
        everything(glu(4, 1), none, moe::OutputBias<float>(kWidth)));
  CHECK(everything(glu(4, 1), none, AnyFrame(latent())) == everything(glu(4, 1), none, latent()));
}
