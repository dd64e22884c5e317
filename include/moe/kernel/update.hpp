// A row of parameters, moved in place by an optimiser's rule, in one pass over all that it reads and writes.
//
// Shapes: w, g and moments[0 .. Rule::kMoments) are contiguous rows of n >= 0 elements, any alignment, apart
// from each other. Tail: the same batch operation on a padded buffer. Errors: none (noexcept); n is asserted.
#pragma once

#include <type_traits>

#include "moe/kernel/arch.hpp"
#include "moe/kernel/ref/update.hpp"
#include "moe/kernel/simd/update.hpp"

MOE_NAMESPACE_BEGIN

/// w[j] = rule(w[j], g[j], m) and g[j] = 0. `m` are the kMoments numbers that the rule keeps for j; it
/// changes them. It takes V = T or a batch of T, and leaves no bare product next to a sum (contract C1).
template <class Arch = native_arch, class Rule, class T>
void update_row(const Rule& rule, T* w, T* g, std::type_identity_t<T>* const* moments, Index n) noexcept {
  MOE_ASSERT(n >= 0);
  impl::update_row(rule, w, g, moments, n, KernelArch<T, Arch>{});
}

MOE_NAMESPACE_END
