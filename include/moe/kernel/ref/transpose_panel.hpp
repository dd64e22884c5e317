// Plain loops of transpose_panel.
#pragma once

#include "moe/kernel/arch.hpp"
#include "moe/kernel/panel.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

template <class T>
void transpose_panel(const T* block, Index rows, T* out, reference_arch) noexcept {
  for (Index n = 0; n < kPanel<T>; ++n) {
    for (Index k = 0; k < rows; ++k) out[n * kPanel<T> + k] = block[k * kPanel<T> + n];
    for (Index k = rows; k < kPanel<T>; ++k) out[n * kPanel<T> + k] = T(0);
  }
}

}  // namespace impl

MOE_NAMESPACE_END
