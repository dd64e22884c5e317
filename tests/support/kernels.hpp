// The kernels that nearly every layer takes, compiled once in kernels.cpp: a second of each batch of tests.
// Tests of the kernels themselves compile their own.
#pragma once

#include "moe/kernel/arch.hpp"
#include "moe/kernel/gemm_tile.hpp"
#include "moe/kernel/outer_tile.hpp"
#include "moe/kernel/row.hpp"
#include "moe/kernel/softmax.hpp"
#include "moe/kernel/top_k.hpp"
#include "moe/kernel/weighted_sum.hpp"

// Arguments are types, and `extern` or nothing: NOLINTBEGIN(bugprone-macro-parentheses)
#define MOE_TEST_KERNELS(EXTERN, T)                                                                       \
  EXTERN template void gemm_tile(const T* const*, Index, Index, const T*, T*, const TileStep&,            \
                                 KernelArch<T, native_arch>) noexcept;                                    \
  EXTERN template void outer_tile(const T*, const T* const*, Index, Index, T*, const T*,                  \
                                  KernelArch<T, native_arch>) noexcept;                                   \
  EXTERN template void softmax_row(const T*, T*, Index, KernelArch<T, native_arch>) noexcept;             \
  EXTERN template void softmax_backward_row(const T*, const T*, T*, Index,                                \
                                            KernelArch<T, native_arch>) noexcept;                         \
  EXTERN template T sum_exp_row(const T*, T, Index, KernelArch<T, native_arch>) noexcept;                 \
  EXTERN template T max_row(const T*, Index, KernelArch<T, native_arch>) noexcept;                        \
  EXTERN template T dot(const T*, const T*, Index, KernelArch<T, native_arch>) noexcept;                  \
  EXTERN template void top_k_row(const T*, Index, Index, ExpertId*, KernelArch<T, native_arch>) noexcept; \
  EXTERN template void weighted_sum_rows(const T* const*, const T*, Index, T*, Index,                     \
                                         KernelArch<T, native_arch>) noexcept;                            \
  EXTERN template void accumulate_weighted_rows(const T* const*, const T*, Index, T*, Index,              \
                                                KernelArch<T, native_arch>) noexcept;
// NOLINTEND(bugprone-macro-parentheses)

MOE_NAMESPACE_BEGIN
namespace impl {
MOE_TEST_KERNELS(extern, float)
MOE_TEST_KERNELS(extern, double)
}  // namespace impl
MOE_NAMESPACE_END
