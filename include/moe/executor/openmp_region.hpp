// What the OpenMP adapter needs; without OpenMP, one thread.
#pragma once

#include "moe/core/types.hpp"

#if defined(_OPENMP)
#include <omp.h>
#endif

MOE_NAMESPACE_BEGIN

inline Index openmp_max_threads() noexcept {
#if defined(_OPENMP)
  return omp_get_max_threads();
#else
  return 1;
#endif
}

/// Whether a region opened here could have more than one thread.
inline bool openmp_may_branch() noexcept {
#if defined(_OPENMP)
  return omp_get_active_level() < omp_get_max_active_levels();
#else
  return false;
#endif
}

/// f(worker) on up to `threads` threads.
template <class F>
void openmp_region(Index threads, const F& f) noexcept {
#if defined(_OPENMP)
#pragma omp parallel num_threads(static_cast <int>(threads))
  f(Index{omp_get_thread_num()});
#else
  static_cast<void>(threads);
  f(Index{0});
#endif
}

MOE_NAMESPACE_END
