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

// Wrappers of scorers and weightings
#include "moe/router/scorer/mapped.hpp"
#include "moe/router/scorer/normed.hpp"
#include "moe/router/weighting/expert_scale.hpp"
