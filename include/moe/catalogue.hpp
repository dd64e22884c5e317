// Everything that moe.hpp leaves out: all parts of all lists, routers chosen at run time, and what the
// catalogue of published techniques adds (docs/catalogue.md). moe.hpp stays the core that most programs need.
#pragma once

#include "moe/moe.hpp"

#include "moe/analysis/routing_change.hpp"

// Lists of parts, and their run-time forms
#include "moe/expert/bank/any.hpp"
#include "moe/expert/bank/list.hpp"
#include "moe/layer/frame/any.hpp"
#include "moe/layer/frame/list.hpp"
#include "moe/layer/shared/any.hpp"
#include "moe/plan/capacity/any.hpp"
#include "moe/plan/capacity/list.hpp"
#include "moe/router/balance/list.hpp"
#include "moe/router/runtime/any_balancing.hpp"
#include "moe/router/runtime/any_parts.hpp"
#include "moe/router/runtime/any_scorer.hpp"
#include "moe/router/runtime/token_choice_options.hpp"
#include "moe/router/score/list.hpp"
#include "moe/router/scorer/list.hpp"
#include "moe/router/selection/list.hpp"
#include "moe/router/weighting/list.hpp"
#include "moe/storage/list.hpp"

// Routers of the catalogue
#include "moe/router/named/attention_router.hpp"
#include "moe/router/named/block_ffn.hpp"
#include "moe/router/named/centroid_router.hpp"
#include "moe/router/named/cosine_top_k.hpp"
#include "moe/router/named/expert_clusters.hpp"
#include "moe/router/named/hyper_router.hpp"
#include "moe/router/named/local_router.hpp"
#include "moe/router/named/mixture_of_routers.hpp"
#include "moe/router/named/prototype_router.hpp"
#include "moe/router/named/speech.hpp"
#include "moe/router/named/stable.hpp"
#include "moe/router/named/token_masked.hpp"

// Wrappers of scorers and weightings
#include "moe/router/scorer/mapped.hpp"
#include "moe/router/scorer/masked.hpp"
#include "moe/router/scorer/normed.hpp"
#include "moe/router/weighting/expert_scale.hpp"
