// Experts of other kinds than gated feed-forward networks of one width.
#include <utility>
#include <vector>

#include "groups.hpp"
#include "moe/depth/duo_llm.hpp"
#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/memory.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/named/adapt_dhm.hpp"
#include "moe/layer/named/flextron.hpp"
#include "moe/layer/named/hecto.hpp"
#include "moe/layer/named/home_kuaishou.hpp"
#include "moe/layer/named/mofme.hpp"

namespace example {
namespace {

using S = const LayerSetting&;

AnyLayer duo_llm(S s) {
  auto layer = moe::duo_llm(glu_bank(1, s.width, s.k * s.hidden, s.seed),
                            glu_bank(1, s.width, s.hidden / 2, s.seed + 1));
  return plain_layer(AnyRouter(std::move(layer.router())), AnyBank(std::move(layer.experts())));
}

/// Half of the experts are a step of a GRU, the others are as wide as K of the usual ones.
AnyLayer hecto(S s) {
  auto layer = moe::hecto<float>({.width = s.width,
                                  .recurrent = s.experts / 2,
                                  .feed_forward = s.experts / 2,
                                  .hidden = s.k * s.hidden});
  layer.router().scorer().initialise(s.seed);
  layer.experts().bank<0>().initialise(s.seed);
  layer.experts().bank<1>().initialise(s.seed);
  return plain_layer(AnyRouter(std::move(layer.router())), AnyBank(std::move(layer.experts())));
}

AnyLayer flextron(S s) {
  std::vector<Index> widths;
  for (Index e = 1; e <= s.experts; ++e) widths.push_back(s.k * s.hidden * e / s.experts);
  auto layer = moe::flextron<float>({.width = s.width, .widths = widths});
  layer.experts().initialise(s.seed);
  return plain_layer(menu_router("flextron", s), AnyBank(std::move(layer.experts())));
}

AnyLayer home_kuaishou(S s) {
  static constexpr Index kCategory[] = {0, 1};
  auto layer = moe::home_kuaishou<float>(
      {.width = s.width,
       .hidden = s.hidden,
       .hierarchy = {
           .category = kCategory, .shared = 0, .per_category = s.experts / 4, .per_task = s.experts / 4}});
  layer.router().inner().scorer().initialise(s.seed);
  layer.experts().inner().inner().initialise(s.seed);
  layer.experts().inner().gate().initialise(s.seed + 1);
  return plain_layer(AnyRouter(std::move(layer.router())), AnyBank(std::move(layer.experts())));
}

/// Each expert multiplies the weights of one that all share, which start at one half.
AnyLayer adapt_dhm(S s) {
  auto layer = moe::adapt_dhm<float>(
      {.clusters = {.width = s.width, .clusters = s.experts}, .hidden = s.k * s.hidden});
  layer.experts().own().initialise(s.seed);
  auto half = [](const moe::Parameter<float>& p) {
    for (Index row = 0; row < p.value.rows; ++row) {
      for (Index col = 0; col < p.value.cols; ++col) p.value(row, col) = 0.5f;
    }
  };
  layer.experts().shared().visit_parameters(nullptr, half);
  return plain_layer(menu_router("cluster", s), AnyBank(std::move(layer.experts())));
}

/// FiLM experts between shared layers.
AnyLayer mofme(S s) {
  auto layer = moe::mofme<float>(
      {.width = s.width, .experts = s.experts, .hidden = s.k * s.hidden, .k = s.k, .load_balance = 0.01});
  layer.frame().initialise(s.seed);
  layer.experts().initialise(s.seed);
  using Layer = moe::MoeLayer<AnyRouter, AnyBank, moe::Dropless, moe::NoShared, moe::FeedForwardFrame<float>>;
  return AnyLayer(Layer(menu_router("uncertain", s), AnyBank(std::move(layer.experts())), {}, {},
                        std::move(layer.frame())));
}

/// A bank whose last expert is what the layer before made.
class MemoryBank : public AnyBank {
 public:
  static constexpr bool kRemembers = true;
  using AnyBank::AnyBank;
};

AnyLayer task_expert(S s) {
  AnyBank own = glu_bank(s.experts - 1, s.width, s.hidden, s.seed);
  return AnyLayer(moe::MoeLayer<AnyRouter, MemoryBank>(
      menu_router("task_expert", s),
      MemoryBank(moe::Composite(std::move(own), moe::MemoryExpert<float>(s.width)))));
}

}  // namespace

std::vector<MenuLayer> expert_layers() {
  constexpr const char* kTask = "task: 1 for white space";
  return {
      {"duo_llm", "2410.10846", "Duo-LLM: a big expert, a small one or none, by chance, in inference too",
       duo_llm},
      {"hecto", "2506.22919", "Hecto: one expert, a step of a GRU or a feed-forward network", hecto},
      {"flextron", "2406.10260",
       "Flextron: one of E widths of one network; its router gets no gradient from the task", flextron},
      {"home_kuaishou",
       "2408.05430",
       "HoME: half of the experts, by task; normed over the batch in training",
       home_kuaishou,
       {.reads = kTask}},
      {"adapt_dhm", "2211.12105", "AdaptDHM: one expert, the cluster's weights times shared ones", adapt_dhm},
      {"mofme", "2312.16610", "MoFME: experts scale and shift what a shared network made", mofme},
      {"task_expert",
       "2307.15324",
       "TaskExpert: gates of each task; the last expert is the layer before",
       task_expert,
       {.reads = kTask}},
  };
}

}  // namespace example
