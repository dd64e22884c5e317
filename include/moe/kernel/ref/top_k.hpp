// Reference of kernel/top_k.hpp: k passes, each for the best of what comes after the last one taken.
#pragma once

#include "moe/kernel/arch.hpp"

MOE_NAMESPACE_BEGIN
namespace impl {

template <class T>
void top_k_row(const T* score, Index n, Index k, ExpertId* out, reference_arch) noexcept {
  Index last = -1;
  for (Index i = 0; i < k; ++i) {
    Index best = -1;
    for (Index j = 0; j < n; ++j) {
      const bool left = last < 0 || score[j] < score[last] || (score[j] == score[last] && j > last);
      if (left && (best < 0 || score[best] < score[j])) best = j;
    }
    out[i] = static_cast<ExpertId>(best);
    last = best;
  }
}

}  // namespace impl
MOE_NAMESPACE_END
