// What training needs beside a layer's forward and backward: sums of gradients scaled and clipped
// (train/gradients.hpp), optimisers (train/adamw.hpp, train/sgd.hpp). All work on flat ranges of parameters
// and gradients as the kernels read them, so nothing is unpacked or copied.
#pragma once

#include <concepts>
#include <type_traits>

#include "moe/core/part_hooks.hpp"

MOE_NAMESPACE_BEGIN

/// What an optimiser moves: a layer with its gradients (TrainedLayer), a matrix of yours (TrainedMatrix), or
/// a model of several, whose two members call those of its pieces. `visit_storage(f)`: f(name, Real* values,
/// Real* gradients, Index n) for every flat range, in the same order every time; null gradients: frozen,
/// nobody touches it. `visit_parameters(f)`: f(Parameter<Real>) for every named matrix in these ranges; the
/// rank decides on weight decay, the name is what state is saved under.
template <class M>
concept TrainedModel = requires(std::remove_reference_t<M>& model, impl::AnyVisitor f) {
  requires std::floating_point<typename std::remove_reference_t<M>::Real>;
  model.visit_storage(f);
  model.visit_parameters(f);
};

namespace impl {
template <class M>
using RealOfModel = typename std::remove_reference_t<M>::Real;
}  // namespace impl

MOE_NAMESPACE_END
