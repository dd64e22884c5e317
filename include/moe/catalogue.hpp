// Everything that moe.hpp leaves out: all parts of all lists, routers chosen at run time, and what the
// catalogue of published techniques adds (docs/catalogue.md). moe.hpp stays the core that most programs need.
#pragma once

#include "moe/moe.hpp"

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

// Named routers
#include "moe/router/kind/random.hpp"
#include "moe/router/layer_schedule.hpp"
#include "moe/router/named/adaptive_top_two.hpp"
#include "moe/router/named/bi_level.hpp"
#include "moe/router/named/broadcast.hpp"
#include "moe/router/named/dense_to_sparse.hpp"
#include "moe/router/named/each_group.hpp"
#include "moe/router/named/frozen_top_k.hpp"
#include "moe/router/named/importance.hpp"
#include "moe/router/named/one_group.hpp"
#include "moe/router/named/rectified.hpp"
#include "moe/router/named/threshold.hpp"
#include "moe/router/named/top_p.hpp"

// Wrappers of scorers, selections and weightings
#include "moe/router/scorer/frozen.hpp"
#include "moe/router/scorer/gumbel.hpp"
#include "moe/router/scorer/mapped.hpp"
#include "moe/router/scorer/normed.hpp"
#include "moe/router/selection/broadcast.hpp"
#include "moe/router/weighting/expert_scale.hpp"
