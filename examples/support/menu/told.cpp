// Routers that read columns besides the rows, or no rows at all.
#include <vector>

#include "../router_columns.hpp"
#include "groups.hpp"
#include "moe/router/hash_table.hpp"
#include "moe/router/kind/hash.hpp"
#include "moe/router/kind/random.hpp"
#include "moe/router/named/hierarchy.hpp"
#include "moe/router/named/importance.hpp"
#include "moe/router/named/local_router.hpp"
#include "moe/router/named/prototype_router.hpp"
#include "moe/router/named/replayed.hpp"
#include "moe/router/named/stable.hpp"
#include "moe/router/named/task_expert.hpp"
#include "moe/router/named/token_masked.hpp"
#include "moe/router/named/top_k.hpp"

namespace example {
namespace {
using S = const RouterSetting&;
constexpr const char* kByte = "token_id: the byte";
}  // namespace

std::vector<MenuRouter> told_routers() {
  return {
      {"hash",
       "2106.04426",
       "a table of K experts per byte, balanced by the text's counts; no rows read",
       [](S s) { return moe::HashRouter<float>(moe::HashTable::balanced(s.counts, s.experts, s.k)); },
       {.reads = kByte}},
      {"random", "2110.04260", "THOR: K experts by chance, in inference too; no rows read",
       [](S s) { return moe::RandomRouter<float>({.experts = s.experts, .k = s.k}); }},
      {"token_masked",
       "2407.09816",
       "MaskMoE: rare bytes see one expert, frequent ones all",
       [](S s) {
         return moe::token_masked_router<float>(
             {.width = s.width, .experts = s.experts, .k = s.k},
             moe::TokenMask::by_frequency(s.counts, {.experts = s.experts, .frequent = s.experts}));
       },
       {.reads = kByte}},
      {"stable",
       "2204.08396",
       "StableMoE: after a tenth of the steps every byte keeps its expert",
       [](S s) {
         return moe::stable_router<float>({.width = s.width,
                                           .experts = s.experts,
                                           .vocabulary = static_cast<Index>(s.counts.size()),
                                           .first_stage = s.steps / 10});
       },
       {.reads = kByte}},
      {"task_expert",
       "2307.15324",
       "TaskExpert: gates of each task; the last expert is the layer before",
       [](S s) {
         return moe::task_expert_router<float>(
             {.width = s.width, .experts = s.experts - 1, .tasks = 2, .k = s.k});
       },
       {.reads = "task: 1 for white space"}},
      {"prototype",
       "2510.24711",
       "ProMoE: a quarter of the experts for rows of another kind",
       [](S s) {
         return moe::prototype_router<float>({.width = s.width,
                                              .experts = s.experts - s.experts / 4,
                                              .unconditional = s.experts / 4,
                                              .k = s.k});
       },
       {.reads = "task: 1 for white space"}},
      {"hierarchy",
       "2408.05430",
       "HoME: half of the experts, by task and its category",
       [](S s) {
         static constexpr Index kCategory[] = {0, 1};
         return moe::hierarchy_router<float>({.width = s.width,
                                              .hierarchy = {.category = kCategory,
                                                            .shared = 0,
                                                            .per_category = s.experts / 4,
                                                            .per_task = s.experts / 4}});
       },
       {.reads = "task: 1 for white space"}},
      {"importance",
       "2409.06669",
       "DA-MoE: up to 2 K experts for rows that matter more",
       [](S s) {
         return moe::importance_router<float>({.width = s.width, .experts = s.experts, .k_max = 2 * s.k});
       },
       {.reads = "features: how rare the byte is"}},
      {"local",
       "2401.13920",
       "LocMoE: block means as logits, experts of the own device preferred",
       [](S s) {
         return moe::local_router<float>({.width = s.width,
                                          .experts = s.experts,
                                          .k = s.k,
                                          .devices = RouterColumns::kDevices,
                                          .bonus = 0.1});
       },
       {.reads = "device: every other sequence"}},
      {"replayed",
       "2510.11370",
       "R3: top-k softmax over a set that was recorded",
       [](S s) {
         return moe::replayed(moe::top_k_softmax<float>({.width = s.width, .experts = s.experts, .k = s.k}));
       },
       {.reads = "replay: K experts by byte"}},
  };
}

}  // namespace example
