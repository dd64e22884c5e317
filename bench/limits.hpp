// What this machine can do, measured: multiply-adds per second and bytes read per second, for a number of
// threads.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include "moe/core/pool_executor.hpp"
#include "moe/kernel/arch.hpp"

namespace bench {

using moe::Index;

inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Twelve independent chains hide the latency of two fma units (4 cycles each on current processors). Named,
/// not an array: g++ 12 keeps an array of accumulators in memory and shows half the peak.
template <class Real>
[[gnu::noinline]] Real fma_chains(long rounds) {
  using B = moe::Batch<Real, moe::native_arch>;
  const B a(Real(0.999)), b(Real(1e-3));
  B c0(Real(0)), c1(Real(1)), c2(Real(2)), c3(Real(3)), c4(Real(4)), c5(Real(5));
  B c6(Real(6)), c7(Real(7)), c8(Real(8)), c9(Real(9)), c10(Real(10)), c11(Real(11));
  for (long i = 0; i < rounds; ++i) {
    c0 = moe::fma(a, c0, b), c1 = moe::fma(a, c1, b), c2 = moe::fma(a, c2, b), c3 = moe::fma(a, c3, b);
    c4 = moe::fma(a, c4, b), c5 = moe::fma(a, c5, b), c6 = moe::fma(a, c6, b), c7 = moe::fma(a, c7, b);
    c8 = moe::fma(a, c8, b), c9 = moe::fma(a, c9, b), c10 = moe::fma(a, c10, b), c11 = moe::fma(a, c11, b);
  }
  return moe::reduce_add(B(((c0 + c1) + (c2 + c3)) + ((c4 + c5) + (c6 + c7)) + ((c8 + c9) + (c10 + c11))));
}

/// Floating-point operations per second (an fma is two) of `threads` threads; the best of several runs.
template <class Real>
double fma_peak(Index threads) {
  constexpr long kRounds = 4'000'000;
  moe::PoolExecutor pool(threads);
  std::vector<Real> sink(static_cast<std::size_t>(threads));
  double best = 0;
  for (int run = 0; run < 7; ++run) {
    const auto start = std::chrono::steady_clock::now();
    pool.parallel_for(threads, [&](Index i, Index) noexcept {
      sink[static_cast<std::size_t>(i)] = fma_chains<Real>(kRounds);
    });
    constexpr auto kLanes = static_cast<double>(moe::Batch<Real, moe::native_arch>::size);
    best = std::max(best, 2 * 12 * kLanes * kRounds * static_cast<double>(threads) / seconds_since(start));
  }
  volatile Real keep = sink[0];
  static_cast<void>(keep);
  return best;
}

[[gnu::noinline]] inline float sum_block(const float* x, Index n) {
  using B = moe::Batch<float, moe::native_arch>;
  constexpr auto w = static_cast<Index>(B::size);
  B s0(0.0f), s1(0.0f), s2(0.0f), s3(0.0f);
  for (Index i = 0; i + 4 * w <= n; i += 4 * w) {
    s0 = s0 + B::load_unaligned(x + i), s1 = s1 + B::load_unaligned(x + i + w);
    s2 = s2 + B::load_unaligned(x + i + 2 * w), s3 = s3 + B::load_unaligned(x + i + 3 * w);
  }
  return moe::reduce_add(B((s0 + s1) + (s2 + s3)));
}

/// Bytes per second that `threads` threads read from 1 GiB (or `bytes`) of memory; the best of several runs.
inline double read_bandwidth(Index threads, std::size_t bytes = std::size_t{1} << 30) {
  constexpr Index kBlock = 1 << 18;  // floats: 1 MiB
  const auto blocks = static_cast<Index>(bytes / sizeof(float)) / kBlock;
  const std::unique_ptr<float[]> data(new float[static_cast<std::size_t>(blocks * kBlock)]);
  moe::PoolExecutor pool(threads);
  std::vector<float> sink(static_cast<std::size_t>(blocks));
  pool.parallel_for(blocks, [&](Index b, Index) noexcept {
    std::memset(data.get() + b * kBlock, 1, kBlock * sizeof(float));
  });
  double best = 0;
  for (int run = 0; run < 5; ++run) {
    const auto start = std::chrono::steady_clock::now();
    pool.parallel_for(blocks, [&](Index b, Index) noexcept {
      sink[static_cast<std::size_t>(b)] = sum_block(data.get() + b * kBlock, kBlock);
    });
    best = std::max(best, static_cast<double>(blocks * kBlock) * sizeof(float) / seconds_since(start));
  }
  volatile float keep = sink[0];
  static_cast<void>(keep);
  return best;
}

/// Limits by (threads, type), measured once.
struct Limits {
  double flops = 0;  // per second
  double bytes = 0;  // per second
};

template <class Real>
const Limits& limits(Index threads, bool smoke) {
  static std::vector<Limits> measured(65);
  Limits& l = measured.at(static_cast<std::size_t>(threads));
  if (l.flops == 0) {
    l.flops = fma_peak<Real>(threads);
    l.bytes = read_bandwidth(threads, smoke ? std::size_t{1} << 26 : std::size_t{1} << 30);
  }
  return l;
}

}  // namespace bench
