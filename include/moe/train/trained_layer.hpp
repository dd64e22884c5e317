// A layer together with its gradients: what optimisers work on.
#pragma once

#include "moe/core/types.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

/// Refers to both. `Gradients`: the layer's own, then all of it is trained; or the call of its backward
/// (MoeLayer::LayerGradients, models::AnyLayer::Backward), then parts without gradients there are frozen here
/// too. (A frozen part has zero gradients, but weight decay would shrink it all the same.)
template <class Layer, class Gradients>
class TrainedLayer {
 public:
  using Real = typename Layer::Real;

  /// Names begin with "prefix." if there is one; layers of one model need different ones.
  TrainedLayer(Layer& layer, Gradients& gradients, const char* prefix = "")
      : layer_(&layer), gradients_(&gradients), prefix_(prefix, *prefix == '\0' ? "" : ".") {}

  template <class Visitor>
  void visit_storage(Visitor&& f) const {
    layer_->visit_storage(*gradients_, [&](const char* name, Real* values, Real* gradients, Index n) {
      f(ParameterName(prefix_.c_str(), name).c_str(), values, gradients, n);
    });
  }
  template <class Visitor>
  void visit_parameters(Visitor&& f) const {
    layer_->visit_parameters([&](const Parameter<Real>& p) {
      const ParameterName name(prefix_.c_str(), p.name);
      f(Parameter<Real>{name.c_str(), p.value, p.gradient});
    });
  }

 private:
  Layer* layer_;
  Gradients* gradients_;
  ParameterName prefix_;
};

MOE_NAMESPACE_END
