// T2MIR, 2506.05426, for in-context reinforcement learning: a Mixture-of-Experts by token and one by task
// side by side, their results beside each other. A segment is a trajectory.
#pragma once

#include <tuple>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/depth/parallel.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/balance/task_contrast.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/named/top_k.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/scorer/segment_pool.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

MOE_NAMESPACE_BEGIN

/// One route for all rows of a segment, from their mean; trained with the contrast of the tasks.
template <class Real>
using T2mirTaskRouter = TokenChoice<SegmentPool<LinearScorer<Real>>, Softmax, TopKSelection, GatherWeighting,
                                    Balancing<TaskContrast>>;

template <class Bank>
using T2mir = Parallel<MoeLayer<SoftmaxTopK<typename Bank::Real>, Bank>,
                       MoeLayer<T2mirTaskRouter<typename Bank::Real>, Bank>>;

struct T2mirOptions {
  TopKOptions by_token{};
  TopKOptions by_task{.load_balance = 0};  // no loss but the contrast
  TaskContrast::Options contrast{};
  Join join = Join::concatenate;  // y [T, 2 D], for the next layer to read
};

/// The task-wise half needs segments and, in training, the column `task`. Throws config_error for options
/// that do not fit, and for losses or a jitter of the task-wise half.
template <class Bank>
T2mir<Bank> t2mir(const T2mirOptions& options, Bank by_token, Bank by_task) {
  using Real = typename Bank::Real;
  const TopKOptions& o = options.by_task;
  if (o.load_balance != 0 || o.z_loss != 0 || o.jitter != 0) {
    fail<config_error>("by_task: expected no balance loss, z-loss or jitter, got ", o.load_balance, ", ",
                       o.z_loss, " and ", o.jitter);
  }
  T2mirTaskRouter<Real> task_router(SegmentPool<LinearScorer<Real>>(LinearScorer<Real>(o.scorer())),
                                    Softmax{}, TopKSelection(o.k), GatherWeighting(o.weights),
                                    Balancing<TaskContrast>(TaskContrast(options.contrast)), o.non_finite);
  return T2mir<Bank>(
      std::tuple(
          MoeLayer<SoftmaxTopK<Real>, Bank>(softmax_top_k<Real>(options.by_token), std::move(by_token)),
          MoeLayer<T2mirTaskRouter<Real>, Bank>(std::move(task_router), std::move(by_task))),
      options.join);
}

MOE_NAMESPACE_END
