// TaskExpert: gates of their own for every task, from the row and from what the layers before decoded for the
// task; that memory is an expert among the others. Ye and Xu 2307.15324.
#pragma once

#include "moe/core/check.hpp"
#include "moe/router/balance/load_balance.hpp"
#include "moe/router/balance/z.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/task_memory.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

struct TaskExpertOptions {
  Index width = 0;    // D
  Index experts = 0;  // without the memory, which is the last id
  Index tasks = 1;
  Index k = 0;              // 0: all, as in the paper
  double load_balance = 0;  // coefficient, see router/balance/load_balance.hpp
  double z_loss = 0;        // coefficient, see router/balance/z.hpp
  NonFinite non_finite = NonFinite::throw_;
};

/// softmax over the experts and the memory, the k best, their probabilities. For a bank
/// Composite<B, MemoryExpert<Real>>. Layer by layer: x are the rows of the network at that depth, the column
/// `carry` what the layer before handed on, its y; on the way back what comes out as dcarry goes in as its
/// dcarry_out.
template <class Real>
using TaskExpertRouter = TokenChoice<TaskMemoryScorer<Real>, Softmax, TopKSelection, GatherWeighting,
                                     Balancing<LoadBalance, ZLoss>>;

/// Throws config_error for sizes or a k that do not fit.
template <class Real>
TaskExpertRouter<Real> task_expert_router(const TaskExpertOptions& options) {
  require_range("experts", options.experts, 1, INT32_MAX - 1);
  const Index outputs = options.experts + 1;
  return {TaskMemoryScorer<Real>({.width = options.width, .outputs = outputs, .tasks = options.tasks}),
          Softmax{},
          TopKSelection(options.k == 0 ? outputs : options.k),
          GatherWeighting{},
          Balancing<LoadBalance, ZLoss>(LoadBalance({.coefficient = options.load_balance}),
                                        ZLoss(options.z_loss)),
          options.non_finite};
}

MOE_NAMESPACE_END
