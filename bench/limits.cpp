#include "limits.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstring>
#include <map>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/executor/pool.hpp"
#include "moe/kernel/arch.hpp"
#include "moe/kernel/prefetch.hpp"

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;

bool short_limits = false;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Twelve independent chains hide the latency of two units (4 cycles each on current processors). Named, not
/// an array: g++ 12 keeps an array of accumulators in memory and shows half the peak.
template <class Vector, class Step>
[[gnu::noinline]] void run_chains(Vector* sums, long rounds, Step step) noexcept {
  Vector c0 = sums[0], c1 = sums[1], c2 = sums[2], c3 = sums[3], c4 = sums[4], c5 = sums[5];
  Vector c6 = sums[6], c7 = sums[7], c8 = sums[8], c9 = sums[9], c10 = sums[10], c11 = sums[11];
  for (long i = 0; i < rounds; ++i) {
    c0 = step(c0), c1 = step(c1), c2 = step(c2), c3 = step(c3), c4 = step(c4), c5 = step(c5);
    c6 = step(c6), c7 = step(c7), c8 = step(c8), c9 = step(c9), c10 = step(c10), c11 = step(c11);
  }
  sums[0] = c0, sums[1] = c1, sums[2] = c2, sums[3] = c3, sums[4] = c4, sums[5] = c5;
  sums[6] = c6, sums[7] = c7, sums[8] = c8, sums[9] = c9, sums[10] = c10, sums[11] = c11;
}

/// Operations per second of `threads` threads that all run the chains; the best of several bursts of about
/// 2 ms, which is long beside waking a thread and short beside what neighbours on the host do.
template <class Vector, class Step>
double chain_peak(Index threads, double operations_per_step, Vector start, Step step) {
  const long rounds = short_limits ? 200'000 : 600'000;
  moe::PoolExecutor pool(threads);
  std::atomic<bool> keep{false};
  double best = 0;
  for (int burst = 0; burst < (short_limits ? 3 : 9); ++burst) {
    const auto begin = Clock::now();
    pool.parallel_for(threads, [&](Index, Index) noexcept {
      Vector sums[12];
      for (Vector& sum : sums) sum = start;
      run_chains(sums, rounds, step);
      unsigned char bytes[sizeof sums];
      std::memcpy(bytes, sums, sizeof sums);
      keep.store(bytes[0] != 0, std::memory_order_relaxed);
    });
    const double operations =
        12 * operations_per_step * static_cast<double>(rounds) * static_cast<double>(threads);
    best = std::max(best, operations / seconds_since(begin));
  }
  return best;
}

template <class Real>
double fma_peak(Index threads) {
  using Arch = moe::KernelArch<Real, moe::native_arch>;
  if constexpr (moe::SimdArch<Arch, Real>) {
    using B = moe::Batch<Real, Arch>;
    const B a(Real(0.999)), b(Real(1e-3));
    return chain_peak(threads, 2.0 * static_cast<double>(B::size), B(Real(1)),
                      [=](const B& c) noexcept { return moe::fma(a, c, b); });
  } else {
    const Real a(0.999), b(1e-3);
    return chain_peak(threads, 2.0, Real(1), [=](Real c) noexcept { return moe::fma(a, c, b); });
  }
}

double measure_peak(Instruction instruction, Index threads) {
  switch (instruction) {
    case Instruction::fma_double:
      return fma_peak<double>(threads);
    case Instruction::dot_bfloat16: {
#if defined(__AVX512BF16__)
      const auto ones = std::bit_cast<__m512bh>(_mm512_set1_epi16(0x3f80));
      return chain_peak(threads, 64, _mm512_set1_ps(1),
                        [=](__m512 c) noexcept { return _mm512_dpbf16_ps(c, ones, ones); });
#else
      break;
#endif
    }
    case Instruction::dot_int8: {
#if defined(__AVX512VNNI__)
      const __m512i ones = _mm512_set1_epi8(1);
      return chain_peak(threads, 128, ones,
                        [=](__m512i c) noexcept { return _mm512_dpbusd_epi32(c, ones, ones); });
#elif defined(__AVXVNNI__)
      const __m256i ones = _mm256_set1_epi8(1);
      return chain_peak(threads, 64, ones,
                        [=](__m256i c) noexcept { return _mm256_dpbusd_avx_epi32(c, ones, ones); });
#else
      break;
#endif
    }
    case Instruction::fma_float:
      break;
  }
  return fma_peak<float>(threads);
}

float sum_block(const float* x, Index n, bool prefetch) noexcept {
  constexpr Index kStep = 64;    // floats: four cache lines
  constexpr Index kAhead = 512;  // floats: half a page
  using Lanes [[gnu::vector_size(64)]] = float;
  Lanes sums[4] = {};
  for (Index i = 0; i < n; i += kStep) {
    const float* ahead = x + std::min(i + kAhead, n - kStep);
    for (Index line = 0; line < 4 && prefetch; ++line) moe::prefetch_l2(ahead + 16 * line);
    Lanes values[4];
    std::memcpy(values, x + i, sizeof values);
    sums[0] += values[0], sums[1] += values[1], sums[2] += values[2], sums[3] += values[3];
  }
  return (sums[0] + sums[1] + sums[2] + sums[3])[0];
}

/// The best of several passes over 512 MiB on huge pages (as moe::Buffer asks for them), with and without
/// software prefetch. Blocks of 1 MiB are claimed as tasks.
double measure_read(Index threads) {
  constexpr Index kBlock = Index{1} << 18;
  static moe::Buffer<float> data(Index{1} << (short_limits ? 23 : 27));
  const Index blocks = data.size() / kBlock;
  moe::PoolExecutor pool(threads);
  std::atomic<bool> keep{false};
  double best = 0;
  for (int pass = 0; pass < 6; ++pass) {
    const auto start = Clock::now();
    pool.parallel_for(blocks, [&](Index b, Index) noexcept {
      const float sum = sum_block(data.data() + b * kBlock, kBlock, pass % 2 == 1);
      keep.store(sum != 0, std::memory_order_relaxed);
    });
    best = std::max(best, static_cast<double>(data.size()) * sizeof(float) / seconds_since(start));
  }
  return best;
}

/// A value and when it was measured.
struct Dated {
  double value = 0;
  Clock::time_point at;

  template <class Measure>
  double refreshed(Measure measure) {
    constexpr double kStale = 0.5;  // seconds: cells that follow each other share a measurement
    if (value == 0 || (!short_limits && seconds_since(at) > kStale)) {
      value = measure();
      at = Clock::now();
    }
    return value;
  }
};

double peak(Instruction instruction, Index threads) {
  static std::map<std::pair<Instruction, Index>, Dated> measured;
  return measured[{instruction, threads}].refreshed([&] { return measure_peak(instruction, threads); });
}

}  // namespace

const char* name_of(Instruction instruction) {
  switch (instruction) {
    case Instruction::fma_double:
      return "fma double";
    case Instruction::dot_bfloat16:
#if defined(__AVX512BF16__)
      return "vdpbf16ps";
#else
      break;
#endif
    case Instruction::dot_int8:
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
      return "vpdpbusd";
#else
      break;
#endif
    case Instruction::fma_float:
      break;
  }
  return "fma float";
}

Limits limits_now(Instruction instruction, Index threads) {
  static std::map<Index, Dated> read;
  const auto row_type =
      instruction == Instruction::fma_double ? Instruction::fma_double : Instruction::fma_float;
  return {.peak = peak(instruction, threads),
          .float_peak = peak(row_type, threads),
          .bytes = read[threads].refreshed([&] { return measure_read(threads); })};
}

Limits LimitsBeside::mean() const {
  const Limits after = limits_now(instruction_, threads_);
  return {.peak = (before_.peak + after.peak) / 2,
          .float_peak = (before_.float_peak + after.float_peak) / 2,
          .bytes = (before_.bytes + after.bytes) / 2};
}

void use_short_limits() {
  short_limits = true;
}

}  // namespace bench
