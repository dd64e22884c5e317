// Experts whose parameters are mixed, one mixture for all rows of a sequence.
#include <utility>
#include <vector>

#include "groups.hpp"
#include "moe/layer/soft/mhr.hpp"
#include "moe/layer/soft/smear.hpp"

namespace example {
namespace {

using S = const LayerSetting&;

/// As many multiplications, and numbers to train, as K of E experts: half as many, twice as wide.
AnyLayer smear(S s) {
  auto layer = moe::smear<float>(
      {.width = s.width, .hidden = s.k * s.hidden, .experts = s.experts / s.k, .bias = true});
  layer.router().initialise(s.seed);
  layer.experts().initialise(s.seed);
  return AnyLayer(std::move(layer));
}

AnyLayer adapters(S s, Index heads) {
  auto layer = moe::mhr<float, moe::Relu>(
      {.width = s.width, .rank = s.k * s.hidden, .modules = s.experts / s.k, .tasks = 2, .heads = heads});
  layer.router().initialise(s.seed);
  layer.experts().initialise_adapters(s.seed);
  return AnyLayer(std::move(layer));
}

}  // namespace

std::vector<MenuLayer> merging_layers() {
  constexpr const char* kTask = "task: 1 where the sequence begins with white space";
  return {
      {"smear", "2306.03745", "SMEAR: merged by the softmax of the sequence's mean row", smear},
      {"poly",
       "2202.13914",
       "Poly: merged by gates of the sequence's task",
       [](S s) { return adapters(s, 1); },
       {.reads = kTask, .task_by_segment = true, .causal = true}},
      {"mhr",
       "2211.03831",
       "MHR: the same, head by head of four",
       [](S s) { return adapters(s, 4); },
       {.reads = kTask, .task_by_segment = true, .causal = true}},
  };
}

}  // namespace example
