// kernel/top_k.hpp on batches. Random scores defeat branch prediction, which costs an insertion sort of 64
// scores some 20 misses of 20 cycles; so the way for small k has hardly a branch that depends on them:
//   1. kGroups lanes of running maxima; their k-th largest is a bound that at least k scores reach;
//   2. the scores that reach it, about 1.4 k of them, are listed without branching;
//   3. each one's rank is counted by comparing all pairs.
// Larger k makes 1 slow: rows of up to kMaxCandidates are ranked whole then, longer ones go through a heap,
// as do those of many equal scores, which make the list overflow.
#pragma once

#include <limits>

#include "moe/kernel/arch.hpp"

MOE_NAMESPACE_BEGIN
namespace impl {

inline constexpr Index kMaxRankedK = 32;
inline constexpr Index kMaxCandidates = 96;    // twice the usual number for k = 32
inline constexpr Index kAllAreCandidates = 8;  // rows this short are ranked whole

/// Whether score i comes before score j in the result.
template <class T>
MOE_ALWAYS_INLINE bool ranks_before(const T* score, ExpertId i, ExpertId j) noexcept {
  return score[i] > score[j] || (score[i] == score[j] && i < j);
}

/// Restores the heap below `at`: no id ranks before its children, so that the root is the one to lose first.
template <class T>
void sift_down(const T* score, ExpertId* heap, Index size, Index at) noexcept {
  const ExpertId id = heap[at];
  for (Index child = 2 * at + 1; child < size; child = 2 * at + 1) {
    if (child + 1 < size && ranks_before(score, heap[child], heap[child + 1])) ++child;
    if (!ranks_before(score, id, heap[child])) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = id;
}

/// O(n log k), in place in out[k].
template <class T>
void top_k_by_heap(const T* score, Index n, Index k, ExpertId* out) noexcept {
  for (Index j = 0; j < k; ++j) out[j] = static_cast<ExpertId>(j);
  for (Index at = k / 2; at-- > 0;) sift_down(score, out, k, at);
  for (Index j = k; j < n; ++j) {
    if (!(score[j] > score[out[0]])) continue;  // a later equal score loses
    out[0] = static_cast<ExpertId>(j);
    sift_down(score, out, k, 0);
  }
  for (Index size = k; size-- > 1;) {
    const ExpertId worst = out[0];
    out[0] = out[size];
    out[size] = worst;
    sift_down(score, out, size, 0);
  }
}

/// The k best of candidate[count], ids ascending, by counting for each how many come before it.
template <class T>
MOE_ALWAYS_INLINE void rank_candidates(const T* score, const ExpertId* candidate, Index count, Index k,
                                       ExpertId* out) noexcept {
  T value[kMaxCandidates];
  ExpertId rank[kMaxCandidates], sorted[kMaxCandidates];
  for (Index i = 0; i < count; ++i) {
    const T v = score[candidate[i]];
    ExpertId losses = 0;
    for (Index j = 0; j < i; ++j) {
      const ExpertId wins = value[j] < v;
      rank[j] += wins;
      losses += 1 - wins;
    }
    value[i] = v;
    rank[i] = losses;
  }
  for (Index i = 0; i < count; ++i) sorted[rank[i]] = candidate[i];
  for (Index i = 0; i < k; ++i) out[i] = sorted[i];
}

/// A value that at least k scores reach: the k-th largest of kGroups maxima, each of every kGroups-th score.
template <Index kGroups, class B, class T>
MOE_ALWAYS_INLINE T bound_of_top_k(const T* score, Index n, Index k) noexcept {
  constexpr Index kWidth = static_cast<Index>(B::size);
  constexpr T kLowest = -std::numeric_limits<T>::infinity();
  alignas(64) T top[kGroups];
  for (Index g = 0; g < kGroups; g += kWidth) {
    B best(kLowest);
    Index j = g;
    for (; j + kWidth <= n; j += kGroups) {
      const B v = B::load_unaligned(score + j);
      best = select(best < v, v, best);
    }
    if (j < n) {
      const B v = load_partial<B>(score + j, n - j, kLowest);
      best = select(best < v, v, best);
    }
    best.store_aligned(top + g);
  }
  B bound(std::numeric_limits<T>::infinity());  // the smallest maximum that fewer than k maxima exceed
  for (Index g = 0; g < kGroups; g += kWidth) {
    const B v = B::load_aligned(top + g);
    B larger(0);
    for (Index i = 0; i < kGroups; ++i) larger = larger + select(v < B(top[i]), B(1), B(0));
    bound = select((larger < B(static_cast<T>(k))) & (v < bound), v, bound);
  }
  return -reduce_max(-bound);
}

/// Lists the ids of the scores >= bound; more than kMaxCandidates means that the list is incomplete.
template <class B, class T>
MOE_ALWAYS_INLINE Index list_candidates(const T* score, Index n, T bound, ExpertId* candidate) noexcept {
  constexpr Index kWidth = static_cast<Index>(B::size);
  Index count = 0;
  for (Index first = 0; first < n && count <= kMaxCandidates; first += kWidth) {
    const Index last = first + kWidth < n ? first + kWidth : n;
    if (last == first + kWidth && !any(B::load_unaligned(score + first) >= B(bound))) continue;
    for (Index j = first; j < last; ++j) {
      candidate[count] = static_cast<ExpertId>(j);
      count += score[j] >= bound;
    }
  }
  return count;
}

template <class T, class Arch>
requires SimdArch<Arch, T>
void top_k_row(const T* score, Index n, Index k, ExpertId* out, Arch) noexcept {
  using B = Batch<T, Arch>;
  constexpr Index kWidth = static_cast<Index>(B::size);
  constexpr Index kGroups = kWidth < 16 ? 16 : kWidth;
  if (k == 0) return;
  const bool all = n <= kAllAreCandidates || (k > kMaxRankedK && n <= kMaxCandidates);
  if (k > kMaxRankedK && !all) return top_k_by_heap(score, n, k, out);
  ExpertId candidate[kMaxCandidates + kWidth];
  Index count = 0;
  if (all) {
    for (; count < n; ++count) candidate[count] = static_cast<ExpertId>(count);
  } else {
    const T bound = k <= kGroups / 2 ? bound_of_top_k<kGroups, B>(score, n, k)
                    : k <= kGroups   ? bound_of_top_k<2 * kGroups, B>(score, n, k)
                                     : bound_of_top_k<4 * kGroups, B>(score, n, k);
    count = list_candidates<B>(score, n, bound, candidate);
  }
  if (count > kMaxCandidates) return top_k_by_heap(score, n, k, out);
  rank_candidates(score, candidate, count, k, out);
}

}  // namespace impl
MOE_NAMESPACE_END
