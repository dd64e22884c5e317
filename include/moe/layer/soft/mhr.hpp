// Adapters that tasks share: every task mixes the parameters of all modules. Poly, Ponti et al. 2202.13914;
// MHR, Caccia et al. 2211.03831, mixes the heads of the modules apart.
#pragma once

#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/expert/bank/multi_head.hpp"
#include "moe/layer/soft/merging_layer.hpp"
#include "moe/router/soft/task_mixer.hpp"

MOE_NAMESPACE_BEGIN

struct MhrOptions {
  Index width = 0;    // D
  Index rank = 0;     // of a module, or its hidden width
  Index modules = 0;  // E
  Index tasks = 0;
  Index heads = 1;         // H, a divisor of D
  bool noise = true;       // training: relaxed Bernoulli draws, which need a DrawCounter
  double temperature = 1;  // of those
};

/// y = B_p A_p x for the rows of a task: A [rank, D] and B [D, rank] are mixtures of the modules' by the
/// task's gates (column `task`), for each of H shares of the columns of x and y by gates of its own. With an
/// activation between (Act) the modules are plain adapters. The frozen layer beside it, and a factor, are the
/// caller's.
template <class Real, class Act = Identity>
using MhrLayer = MergingLayer<TaskMixer<Real>, MultiHead<Mlp<Act, Real>>>;

/// Modules and gates are 0: `router().initialise(seed)`, `experts().initialise_adapters(seed)`. Throws
/// config_error for sizes that do not fit.
template <class Real, Activation Act = Identity>
MhrLayer<Real, Act> mhr(const MhrOptions& o, Act act = {}) {
  return {TaskMixer<Real>({o.tasks, o.modules, o.heads, o.noise, o.temperature}),
          {Mlp<Act, Real>({o.modules, o.width, o.rank}, std::move(act)), o.heads}};
}
/// MHR of one head. Throws config_error for several, too.
template <class Real, Activation Act = Identity>
MhrLayer<Real, Act> poly(const MhrOptions& o, Act act = {}) {
  require_range("heads of Poly", o.heads, 1, 1);
  return mhr<Real, Act>(o, std::move(act));
}

/// MHR-z: only the gates are trained, the modules are frozen. What its backward takes.
template <class Real, class Act>
typename MhrLayer<Real, Act>::LayerGradients mhr_z(const MhrLayer<Real, Act>&, ConstMatrixView<Real> dy,
                                                   MatrixView<Real> dx,
                                                   typename MhrLayer<Real, Act>::Gradients& gradients) {
  typename MhrLayer<Real, Act>::LayerGradients out(dy, dx, gradients);
  out.experts = nullptr;
  return out;
}

/// MHR-mu: the mean of the modules, one adapter for all tasks, to be trained for one.
template <class Real, class Act>
Mlp<Act, Real> mhr_mu(const MhrLayer<Real, Act>& layer, Act act = {}) {
  const auto& modules = layer.experts();
  Buffer<Real> p;
  p.assign(modules.heads() * modules.experts(), 1 / static_cast<Real>(modules.experts()));
  Mlp<Act, Real> mean({1, modules.width(), modules.hidden()}, std::move(act));
  SerialExecutor serial;
  modules.merge_into(p.data(), mean, serial);
  return mean;
}

MOE_NAMESPACE_END
