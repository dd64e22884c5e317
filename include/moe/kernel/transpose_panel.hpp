// Transposes one square block of a panel, so that products with the transposed weights run on gemm_tile too.
#pragma once

#include "moe/kernel/arch.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/kernel/ref/transpose_panel.hpp"
#include "moe/kernel/simd/transpose_panel.hpp"

MOE_NAMESPACE_BEGIN

/// out[n][k] = block[k][n] for k < rows, 0 for rows <= k < kPanel<T>; n < kPanel<T>.
///
/// Shapes: block [rows][kPanel], 0 <= rows <= kPanel (kPanel consecutive rows of a panel, or its last ones);
/// out [kPanel][kPanel]; both aligned to 64 bytes, apart from each other.
template <class Arch, class T>
inline void transpose_panel(const T* block, Index rows, T* out) noexcept {
  MOE_ASSERT(rows >= 0 && rows <= kPanel<T>);
  impl::transpose_panel(block, rows, out, KernelArch<T, Arch>{});
}

MOE_NAMESPACE_END
