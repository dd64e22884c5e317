#include "moe/layer/describe.hpp"

#include <sstream>
#include <string>

#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/frame/chain.hpp"
#include "moe/layer/frame/output_bias.hpp"
#include "moe/layer/frame/scaled.hpp"
#include "moe/layer/isolated_layer.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/shared/shared_experts.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "moe/router/kind/hash.hpp"
#include "moe/router/named/top_k.hpp"
#include "moe/router/runtime/token_choice_options.hpp"
#include "support/catch.hpp"

namespace {

using Bank = moe::Glu<moe::Silu>;
constexpr moe::Index kWidth = 4, kExperts = 3;

Bank bank(moe::Index experts = kExperts) {
  return Bank({.experts = experts, .width = kWidth, .hidden = 5});
}

template <class Layer>
std::string printed(const Layer& layer) {
  std::ostringstream out;
  out << layer;
  return out.str();
}

}  // namespace

TEST_CASE("describe names every part by role", "[layer]") {
  CHECK(moe::describe(moe::MoeLayer(moe::softmax_top_k<float>({.width = kWidth, .experts = kExperts, .k = 2}),
                                    bank())) ==
        "scorer linear, score softmax, selection top_k, weighting gather, balance load_balance, balance "
        "z_loss, "
        "capacity dropless, experts glu, weights float, shared none, frame identity");
  const moe::MoeLayer layer(
      moe::HashRouter<float>(moe::HashTable::own(std::vector<moe::ExpertId>{0, 1, 2, 3}, 4, 4, 1)),
      moe::Composite(bank(), moe::ZeroComputation<float>({.width = kWidth, .copy = 1})),
      moe::FixedCapacity({.tokens_per_expert = 2}), moe::SharedExperts(bank(1)),
      moe::FrameChain(moe::OutputBias<float>(kWidth), moe::ScaledFrame<float>(kWidth, 2)));
  CHECK(moe::describe(layer) ==
        "router hash, capacity fixed, experts glu, weights float, experts zero_computation, shared glu, "
        "weights "
        "float, frame output_bias, frame scaled");
}

TEST_CASE("describe sees through parts chosen at run time", "[layer]") {
  moe::TokenChoiceOptions options{.width = kWidth, .outputs = kExperts, .k = 2};
  options.norm.enabled = true;
  options.map = moe::SoftCap(3);
  options.score = moe::SigmoidScore{};
  options.balance.set(moe::ZLoss(0.1));
  CHECK(moe::describe(moe::MoeLayer(moe::token_choice_router<float>(options), bank())) ==
        "rows rms_norm, scorer linear, logits soft_cap, score sigmoid, selection top_k, weighting gather, "
        "balance z_loss, "
        "capacity "
        "dropless, experts glu, weights float, shared none, frame identity");
}

TEST_CASE("a layer prints its extents and a line for each role", "[layer]") {
  const moe::MoeLayer layer(moe::softmax_top_k<float>({.width = kWidth, .experts = kExperts, .k = 2}), bank(),
                            moe::FixedCapacity({.tokens_per_expert = 2}), moe::SharedExperts(bank(1)));
  const std::string text = R"(layer of width 4, 3 experts, per_segment
  scorer linear
  score softmax
  selection top_k
  weighting gather
  balance load_balance, z_loss
  capacity fixed
  experts glu
  weights float
  shared glu
  weights float
  frame identity
)";
  CHECK(printed(layer) == text);
}

TEST_CASE("an isolated layer prints as the layer it is", "[layer]") {
  moe::MoeLayer layer(moe::softmax_top_k<float>({.width = kWidth, .experts = kExperts, .k = 2}), bank());
  const std::string text = printed(layer);
  CHECK(text.find("3 experts, row_independent\n") != std::string::npos);
  CHECK(printed(moe::IsolatedLayer<decltype(layer)>(std::move(layer))) == text);
}
