// Everything of the core library, in the order of the data flow:
//   tokens X[T,D] > 1 route > 2 plan > 3 dispatch > 4 experts > 5 combine > Y[T,D]
#pragma once

// Values and contracts
#include "moe/config.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/describe.hpp"
#include "moe/executor/any.hpp"
#include "moe/executor/eigen.hpp"
#include "moe/executor/openmp.hpp"
#include "moe/executor/pool.hpp"

// 1 route
#include "moe/router/concept.hpp"
#include "moe/router/kind/every.hpp"
#include "moe/router/kind/given.hpp"
#include "moe/router/kind/hash.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/named/deepseek.hpp"
#include "moe/router/named/expert_choice.hpp"
#include "moe/router/named/gshard.hpp"
#include "moe/router/named/moe_plus_plus.hpp"
#include "moe/router/named/noisy_top_k.hpp"
#include "moe/router/named/null_experts.hpp"
#include "moe/router/named/relu.hpp"
#include "moe/router/named/switch.hpp"
#include "moe/router/named/top_k.hpp"
#include "moe/router/schedule.hpp"

// 2 plan
#include "moe/plan/capacity/dropless.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "moe/plan/capacity/heterogeneous.hpp"
#include "moe/plan/dispatch_plan.hpp"
#include "moe/plan/route_table.hpp"
#include "moe/plan/statistics.hpp"

// 3 dispatch
#include "moe/dispatch/row_pointers.hpp"
#include "moe/dispatch/rows.hpp"

// 4 experts
#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/function.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/expert/bank/quantise.hpp"
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/expert/concept.hpp"

// 5 combine
#include "moe/combine/rows.hpp"
#include "moe/combine/weighted_sum.hpp"

// The layer
#include "moe/archive/reader.hpp"
#include "moe/archive/writer.hpp"
#include "moe/layer/describe.hpp"
#include "moe/layer/forward_experts.hpp"
#include "moe/layer/frame/chain.hpp"
#include "moe/layer/frame/latent.hpp"
#include "moe/layer/frame/output_bias.hpp"
#include "moe/layer/frame/scaled.hpp"
#include "moe/layer/isolated_layer.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/quantise.hpp"
#include "moe/layer/shared/shared_experts.hpp"
#include "moe/layer/sum/routed_sum.hpp"

// Training
#include "moe/train/adamw.hpp"
#include "moe/train/gradients.hpp"
#include "moe/train/sgd.hpp"
#include "moe/train/trained_layer.hpp"
#include "moe/train/trained_matrix.hpp"
