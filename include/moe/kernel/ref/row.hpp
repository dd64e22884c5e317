// Reference of kernel/row.hpp: plain loops, in ascending index.
#pragma once

#include <limits>

#include "moe/kernel/arch.hpp"

MOE_NAMESPACE_BEGIN
namespace impl {

template <class T>
void copy_row(const T* x, T* y, Index n, reference_arch) noexcept {
  for (Index j = 0; j < n; ++j) y[j] = x[j];
}

template <class T>
void fill_row(T a, T* y, Index n, reference_arch) noexcept {
  for (Index j = 0; j < n; ++j) y[j] = a;
}

template <class T>
void scale_row(T a, const T* x, T* y, Index n, reference_arch) noexcept {
  for (Index j = 0; j < n; ++j) y[j] = a * x[j];
}

template <class T>
void axpy_row(T a, const T* x, T* y, Index n, reference_arch) noexcept {
  for (Index j = 0; j < n; ++j) y[j] = fma(a, x[j], y[j]);
}

template <class T>
void add_row(const T* x, T* y, Index n, reference_arch) noexcept {
  for (Index j = 0; j < n; ++j) y[j] += x[j];
}

template <class T>
void fma_row(const T* x, const T* z, T* y, Index n, reference_arch) noexcept {
  for (Index j = 0; j < n; ++j) y[j] = fma(x[j], z[j], y[j]);
}

template <class T>
T dot(const T* x, const T* z, Index n, reference_arch) noexcept {
  T sum = 0;
  for (Index j = 0; j < n; ++j) sum = fma(x[j], z[j], sum);
  return sum;
}

template <class T>
T sum_row(const T* x, Index n, reference_arch) noexcept {
  T sum = 0;
  for (Index j = 0; j < n; ++j) sum += x[j];
  return sum;
}

template <class T>
T max_row(const T* x, Index n, reference_arch) noexcept {
  T top = -std::numeric_limits<T>::infinity();
  for (Index j = 0; j < n; ++j) top = top < x[j] ? x[j] : top;
  return top;
}

}  // namespace impl
MOE_NAMESPACE_END
