// load_layer<Layer>(): a type of static parts gives the bits of the erased layer, or says why it does not
// fit.
#include "moe/models/file/typed_layer.hpp"

#include <string>

#include "models/fixture.hpp"
#include "moe/layer/shared/none.hpp"
#include "moe/layer/shared/shared_experts.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/router/named/deepseek.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace {

using test::Golden;
using test::Ran;
using Swiglu = moe::Glu<moe::Silu>;
using Mixtral = moe::MoeLayer<
    moe::TokenChoice<moe::LinearScorer<float>, moe::Softmax, moe::TopKSelection, moe::GatherWeighting>,
    Swiglu>;
using DeepSeek = moe::MoeLayer<moe::DeepSeekV3<float>, Swiglu, moe::Dropless, moe::SharedExperts<Swiglu>>;

template <class Layer>
void check_same(const char* folder) {
  INFO(folder);
  const Golden golden(folder);
  const Layer layer = moe::models::load_layer<Layer>(golden.folder, golden.layer);
  std::vector<float> y(golden.y.size());
  moe::LayerOutput<float> out(moe::MatrixView<float>(y.data(), golden.tokens, golden.width));
  moe::Workspace workspace;
  layer.forward(golden.input(), out, workspace);
  CHECK(y == Ran(golden.load(), golden.input()).y);
}

template <class Layer>
void check_refused(const char* folder, const char* part) {
  const Golden golden(folder);
  const std::string message = test::message_of<moe::config_error>(
      [&] { moe::models::load_layer<Layer>(golden.folder, golden.layer); });
  INFO(message);
  CHECK(message.find(part) != std::string::npos);
  CHECK(message.find("does not fit") != std::string::npos);
}

}  // namespace

TEST_CASE("a type of static parts gives the bits of the erased layer", "[models]") {
  check_same<Mixtral>("mixtral");
  check_same<Mixtral>("qwen3_moe");
  check_same<DeepSeek>("deepseek_v3");
  check_same<DeepSeek>("glm4_moe");
}

TEST_CASE("types may be made of every part of the lists that a model has", "[models]") {
  using moe::TopKSelection;
  using Wrapped = moe::MoeLayer<moe::TokenChoice<moe::MappedScorer<moe::LinearScorer<float>, moe::SoftCap>,
                                                 moe::Softmax, TopKSelection, moe::GatherWeighting>,
                                moe::Glu<moe::GeluTanh>>;
  check_same<Wrapped>("grok1_2");
  using Cheap = moe::Composite<Swiglu, moe::ZeroComputation<float>>;
  using PlusPlus = moe::MoeLayer<moe::TokenChoice<moe::GatingResidual<moe::TwoLayerScorer<float>>,
                                                  moe::Softmax, TopKSelection, moe::LeadingWeighting>,
                                 Cheap, moe::Dropless, moe::NoShared, moe::ScaledFrame<float>>;
  check_same<PlusPlus>("moepp");
  using Spread = moe::MoeLayer<
      moe::TokenChoice<moe::MappedScorer<moe::GatingResidual<moe::LinearScorer<float>>, moe::LogitSpread>,
                       moe::Softmax, TopKSelection, moe::LeadingWeighting>,
      Cheap>;
  check_same<Spread>("moepp_2");
  using Swin = moe::MoeLayer<
      moe::TokenChoice<moe::CosineScorer<float>, moe::Softmax, TopKSelection, moe::GatherWeighting>,
      moe::Mlp<moe::GeluErf>, moe::FixedCapacity>;
  check_same<Swin>("swin_moe_3");
  using Phi =
      moe::MoeLayer<moe::TokenChoice<moe::LinearScorer<float>, moe::IdentityScore, TopKSelection,
                                     moe::SparseMixerWeighting, moe::Balancing<moe::ZLoss, moe::AdaptiveL1>>,
                    Swiglu>;
  check_same<Phi>("phimoe");
  using Gemma = moe::MoeLayer<moe::TokenChoice<moe::NormedScorer<moe::LinearScorer<float>>, moe::Softmax,
                                               TopKSelection, moe::ExpertScale<float, moe::GatherWeighting>>,
                              moe::Glu<moe::GeluTanh>>;
  check_same<Gemma>("gemma4");
}

TEST_CASE("a type that does not compute what the model does is refused", "[models]") {
  check_refused<Mixtral>("deepseek_v3", "score softmax");
  check_refused<Mixtral>("ernie4_5_moe", "Balancing");
  check_refused<Mixtral>("qwen2_moe", "NoShared");
  check_refused<Mixtral>("grok1", "silu");
  check_refused<Mixtral>("aria", "score softmax");
  using Bare = moe::MoeLayer<
      moe::TokenChoice<moe::TwoLayerScorer<float>, moe::Softmax, moe::TopKSelection, moe::LeadingWeighting>,
      moe::Composite<Swiglu, moe::ZeroComputation<float>>, moe::Dropless, moe::NoShared,
      moe::ScaledFrame<float>>;
  check_refused<Bare>("moepp", "two_layer");
  using Behind = moe::MoeLayer<
      moe::TokenChoice<moe::GatingResidual<moe::MappedScorer<moe::LinearScorer<float>, moe::LogitSpread>>,
                       moe::Softmax, moe::TopKSelection, moe::LeadingWeighting>,
      moe::Composite<Swiglu, moe::ZeroComputation<float>>>;
  check_refused<Behind>("moepp_2", "GatingResidual");
  check_refused<DeepSeek>("minimax_m2", "SharedExperts");
  check_refused<DeepSeek>("nemotron_h", "Glu");
  check_refused<DeepSeek>("mixtral", "score sigmoid");
}
