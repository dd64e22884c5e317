// Ids of the k largest scores of a row.
#pragma once

#include "moe/kernel/arch.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/ref/top_k.hpp"
#include "moe/kernel/simd/top_k.hpp"

MOE_NAMESPACE_BEGIN

/// out[0..k): the indices of the k largest of score[n], largest first; of equal scores (+0 and -0 are equal)
/// the lower index first. -inf is a score like any other and comes last. Every Arch gives the same ids.
/// Preconditions: 0 <= k <= n < 2^31, no NaN (asserted; checked where logits enter, by kernel/finite.hpp).
/// Cost: O(n + k^2) for k <= 32 and few equal scores, O(n^2) for n <= 96 and larger k, else O(n log k); no
/// allocation.
template <class Arch = native_arch, class T>
void top_k_row(const T* score, Index n, Index k, ExpertId* out) noexcept {
  MOE_ASSERT(0 <= k && k <= n && n <= Index{0x7FFFFFFF});
  MOE_ASSERT(!has_nan(score, n));
  impl::top_k_row(score, n, k, out, KernelArch<T, Arch>{});
}

MOE_NAMESPACE_END
