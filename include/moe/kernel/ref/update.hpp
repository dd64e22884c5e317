// Reference of kernel/update.hpp: a plain loop.
#pragma once

#include "moe/kernel/arch.hpp"

MOE_NAMESPACE_BEGIN
namespace impl {

template <class Rule, class T>
MOE_NOINLINE void update_row(const Rule& rule, T* w, T* g, T* const* moments, Index n,
                             reference_arch) noexcept {
  for (Index j = 0; j < n; ++j) {
    T moment[Rule::kMoments + 1];
    for (Index i = 0; i < Rule::kMoments; ++i) moment[i] = moments[i][j];
    w[j] = rule(w[j], g[j], moment);
    g[j] = 0;
    for (Index i = 0; i < Rule::kMoments; ++i) moments[i][j] = moment[i];
  }
}

}  // namespace impl
MOE_NAMESPACE_END
