// Everything of the core library, in the order of the data flow:
//   tokens X[T,D] > 1 route > 2 plan > 3 dispatch > 4 experts > 5 combine > Y[T,D]
#pragma once

// Values and contracts
#include "moe/config.hpp"
#include "moe/core/any_executor.hpp"
#include "moe/core/check.hpp"
#include "moe/core/eigen_executor.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/openmp_executor.hpp"
#include "moe/core/pool_executor.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/describe.hpp"

// 1 route
#include "moe/router/any_parts.hpp"
#include "moe/router/concept.hpp"
#include "moe/router/deepseek.hpp"
#include "moe/router/expert_choice.hpp"
#include "moe/router/given.hpp"
#include "moe/router/gshard.hpp"
#include "moe/router/hash.hpp"
#include "moe/router/moe_plus_plus.hpp"
#include "moe/router/noisy_top_k.hpp"
#include "moe/router/null_experts.hpp"
#include "moe/router/relu.hpp"
#include "moe/router/switch.hpp"
#include "moe/router/token_choice.hpp"
#include "moe/router/token_choice_options.hpp"
#include "moe/router/top_k.hpp"

// 2 plan
#include "moe/plan/capacity.hpp"
#include "moe/plan/dispatch_plan.hpp"
#include "moe/plan/heterogeneous_capacity.hpp"
#include "moe/plan/route_table.hpp"
#include "moe/plan/statistics.hpp"

// 3 dispatch
#include "moe/dispatch/gather.hpp"

// 4 experts
#include "moe/expert/composite.hpp"
#include "moe/expert/concept.hpp"
#include "moe/expert/glu.hpp"
#include "moe/expert/mlp.hpp"
#include "moe/expert/quantise.hpp"
#include "moe/expert/shared.hpp"
#include "moe/expert/zero_computation.hpp"

// 5 combine
#include "moe/combine/weighted_sum.hpp"

// The layer
#include "moe/layer/forward_experts.hpp"
#include "moe/layer/isolated_layer.hpp"
#include "moe/layer/latent_frame.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/output_bias.hpp"
#include "moe/layer/scaled_frame.hpp"
#include "moe/weights/archive.hpp"
#include "moe/weights/archive_writer.hpp"
