// Chosen experts are added up as they are.
#pragma once

#include "moe/router/weighting/concept.hpp"

MOE_NAMESPACE_BEGIN

/// Every chosen expert weighs 1: the router learns from its losses alone.
class UnitWeighting {
 public:
  static constexpr const char* kName = "unit";

  template <class Real>
  void forward(const RowContext<Real>&, const Chosen& chosen, Real* weight, bool* keep) const noexcept {
    for (Index i = 0; i < chosen.count; ++i) {
      weight[i] = 1;
      keep[i] = true;
    }
  }
  template <class Real>
  void backward(const RowContext<Real>&, const Chosen&, const Real*, Real*) const noexcept {}
};

MOE_NAMESPACE_END
