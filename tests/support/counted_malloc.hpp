// How often a call allocates. malloc itself is counted, so Eigen's own allocations and those of OpenMP's
// runtime show; operator new ends up there too.
#pragma once

#include <functional>

#include "support/sanitizers.hpp"

#if defined(__GLIBC__) && !MOE_TEST_SANITIZED
#define MOE_TEST_COUNTS_MALLOC 1
#else
#define MOE_TEST_COUNTS_MALLOC 0
#endif

namespace test {

/// Allocations of `call`, on all threads; 0 where nothing counts (MOE_TEST_COUNTS_MALLOC).
long allocations_of(const std::function<void()>& call);

}  // namespace test
