// Experts that are asked before anybody has chosen.
#include <utility>
#include <vector>

#include "groups.hpp"
#include "moe/depth/chain.hpp"
#include "moe/depth/finedeep.hpp"
#include "moe/depth/normed_layer.hpp"
#include "moe/layer/probe/autonomy_of_experts.hpp"
#include "moe/layer/probe/compete_smoe.hpp"
#include "moe/layer/probe/probing_layer.hpp"

namespace example {
namespace {

using S = const LayerSetting&;

template <class R, class B>
AnyLayer erased(moe::ProbingLayer<R, B>& layer) {
  return AnyLayer(moe::ProbingLayer<AnyRouter, AnyBank>(AnyRouter(std::move(layer.router())),
                                                        AnyBank(std::move(layer.experts()))));
}

AnyLayer autonomy_of_experts(S s) {
  auto layer = moe::autonomy_of_experts<float>(
      {.width = s.width, .experts = s.experts, .hidden = s.hidden, .probe = s.width / 3, .k = s.k});
  layer.experts().initialise(s.seed);
  return erased(layer);
}

moe::CompeteOptions compete_options(S s) {
  return {.router = {.width = s.width, .experts = s.experts, .k = s.k, .z_loss = 0.001}, .rate = 0.07};
}
template <class Layer>
AnyLayer competing(Layer layer, S s) {
  layer.router().router().scorer().initialise(s.seed);
  return erased(layer);
}

/// Two sub-layers of half of the experts each; all of them run, and so they are narrower.
AnyLayer finedeep(S s) {
  const double eps = 1e-6;
  auto chain = moe::finedeep<float>(
      {.width = s.width, .hidden = s.k * s.hidden, .layers = 2, .experts = s.experts / 2, .eps = eps});
  std::vector<moe::NormedLayer<AnyLayer>> layers;
  std::uint64_t seed = s.seed;
  for (auto& normed : chain.layers()) {
    normed.layer().experts().inner().initialise(seed++);
    layers.emplace_back(erased(normed.layer()), eps);
  }
  return AnyLayer(moe::Chain(std::move(layers), chain.residual()));
}

}  // namespace

std::vector<MenuLayer> probing_layers() {
  return {
      {"autonomy_of_experts", "2501.13074",
       "no router: the K experts whose first factor of the gate is longest", autonomy_of_experts},
      {"compete_smoe", "2505.13380", "now and then all experts run, and the router learns who was best",
       [](S s) {
         return competing(
             moe::compete_smoe(glu_bank(s.experts, s.width, s.hidden, s.seed), compete_options(s)), s);
       }},
      {"compete_smoe_v1", "2402.02526", "the same by the lengths of the results, which learn as well",
       [](S s) {
         return competing(
             moe::compete_smoe_v1(glu_bank(s.experts, s.width, s.hidden, s.seed), compete_options(s)), s);
       }},
      {"finedeep", "2502.12928", "two sub-layers of experts that all run, weighed by what they made",
       finedeep},
  };
}

}  // namespace example
