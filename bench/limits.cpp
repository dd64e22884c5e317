#include "limits.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstring>
#include <map>
#include <type_traits>
#include <utility>
#include <vector>

#include "moe/core/buffer.hpp"
#include "moe/executor/pool.hpp"
#include "moe/kernel/arch.hpp"
#include "moe/kernel/prefetch.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__AVX2__)
#include <immintrin.h>
#endif

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

/// Operations per second of `threads` threads that each run work(), which does `operations`; the best of
/// several bursts of about 2 ms, which is long beside waking a thread and short beside what neighbours on the
/// host do.
template <class Work>
double burst_peak(Index threads, double operations, Work work) {
  moe::PoolExecutor pool(threads);
  std::atomic<bool> keep{false};
  double best = 0;
  for (int burst = 0; burst < (short_limits ? 3 : 9); ++burst) {
    const auto begin = Clock::now();
    pool.parallel_for(threads, [&](Index, Index) noexcept { keep.store(work(), std::memory_order_relaxed); });
    best = std::max(best, operations * static_cast<double>(threads) / seconds_since(begin));
  }
  return best;
}

template <class Vector, class Step>
double chain_peak(Index threads, double operations_per_step, Vector start, Step step) {
  const long rounds = short_limits ? 200'000 : 600'000;
  return burst_peak(threads, 12 * operations_per_step * static_cast<double>(rounds), [=]() noexcept {
    Vector sums[12];
    for (Vector& sum : sums) sum = start;
    run_chains(sums, rounds, step);
    unsigned char bytes[sizeof sums];
    std::memcpy(bytes, sums, sizeof sums);
    return bytes[0] != 0;
  });
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

// Exact products of 32 codes of a row with those of as many columns as a vector has lanes: quad() adds four
// of the 32, widen() gives sums in 32 bits. The instructions are volatile: their operands do not change, and
// a compiler would multiply once.
#if defined(__AVX2__) && !defined(__AVX512VNNI__) && !defined(__AVXVNNI__)
#define MOE_BENCH_BYTE_PRODUCTS
struct Bytes {
  using Ints = __m256i;
  static constexpr int kSums = 1;

  static Ints multiply_bytes(Ints a, Ints b) noexcept {
    Ints x;
    asm volatile("vpmaddubsw %2, %1, %0" : "=x"(x) : "x"(a), "x"(b));
    return x;
  }
  static Ints multiply_shorts(Ints a, Ints b) noexcept {
    Ints x;
    asm volatile("vpmaddwd %2, %1, %0" : "=x"(x) : "x"(a), "x"(b));
    return x;
  }
  static Ints with_sign(Ints a, Ints b) noexcept {
    Ints x;
    asm volatile("vpsignb %2, %1, %0" : "=x"(x) : "x"(a), "x"(b));
    return x;
  }
  static void add_shorts(Ints& sum, Ints x) noexcept {
    asm volatile("vpaddw %1, %0, %0" : "+x"(sum) : "x"(x));
  }
  static void add_ints(Ints& sum, Ints x) noexcept { asm volatile("vpaddd %1, %0, %0" : "+x"(sum) : "x"(x)); }
  static Ints ones() noexcept { return _mm256_set1_epi16(1); }
  static Ints widen(const Ints* sum) noexcept { return sum[0]; }
};

struct SignedBytes : Bytes {
  static constexpr const char* kName = "vpsignb + vpmaddubsw + vpmaddwd + vpaddd";
  static void quad(Ints* sum, Ints a, Ints b) noexcept {
    add_ints(sum[0], multiply_shorts(multiply_bytes(a, with_sign(b, a)), ones()));
  }
};
struct Shorts : Bytes {
  static constexpr const char* kName = "2 (vpmaddwd + vpaddd)";
  static void quad(Ints* sum, Ints a, Ints b) noexcept {
    add_ints(sum[0], multiply_shorts(a, b));
    add_ints(sum[0], multiply_shorts(b, a));
  }
};
struct SplitRows : Bytes {  // 16 high + low
  static constexpr const char* kName = "2 (vpmaddubsw + vpaddw), 2 vpmaddwd + vpaddd a group";
  static constexpr int kSums = 2;
  static void quad(Ints* sum, Ints a, Ints b) noexcept {
    add_shorts(sum[0], multiply_bytes(a, b));
    add_shorts(sum[1], multiply_bytes(b, a));
  }
  static Ints widen(const Ints* sum) noexcept {
    Ints x = multiply_shorts(sum[0], ones());
    add_ints(x, multiply_shorts(sum[1], ones()));
    return x;
  }
};
struct SmallBytes : Bytes {  // of 4 bits: eight pairs of products fit 16
  static constexpr const char* kName = "vpmaddubsw + vpaddw, vpmaddwd a group";
  static void quad(Ints* sum, Ints a, Ints b) noexcept { add_shorts(sum[0], multiply_bytes(a, b)); }
  static Ints widen(const Ints* sum) noexcept { return multiply_shorts(sum[0], ones()); }
};
#elif defined(__AVX512VNNI__) || defined(__AVXVNNI__)
#define MOE_BENCH_BYTE_PRODUCTS
struct Quads {
  static constexpr const char* kName = "vpdpbusd";
  static constexpr int kSums = 1;
#if defined(__AVX512VNNI__)
  using Ints = __m512i;
  static void quad(Ints* sum, Ints a, Ints b) noexcept {
    asm volatile("vpdpbusd %2, %1, %0" : "+v"(sum[0]) : "v"(a), "v"(b));
  }
#else
  using Ints = __m256i;
  static void quad(Ints* sum, Ints a, Ints b) noexcept {
    asm volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum[0]) : "x"(a), "x"(b));
  }
#endif
  static Ints widen(const Ints* sum) noexcept {
    return sum[0];
  }
};
#endif

/// A sequence's name, and operations per second without and with what a group of 32 needs in float.
struct Sequence {
  const char* name = nullptr;
  double peak = 0;
  double group_peak = 0;
};

#if defined(MOE_BENCH_BYTE_PRODUCTS)

/// total + (float(sum) * scale) * scale.
#if defined(__AVX512VNNI__)
inline __m512 add_group(__m512i sum, __m512 scale, __m512 total) noexcept {
  return _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale), scale, total);
}
inline __m512 zeros(__m512i) noexcept {
  return __m512{};
}
#else
inline __m256 add_group(__m256i sum, __m256 scale, __m256 total) noexcept {
  return _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale), scale, total);
}
inline __m256 zeros(__m256i) noexcept {
  return __m256{};
}
#endif

/// `rounds` times the groups of as many columns as sizeof...(C) vectors have.
template <class S, bool kScales, std::size_t... C>
[[gnu::noinline]] float run_groups(long rounds, std::index_sequence<C...>) noexcept {
  using Ints = typename S::Ints;
  const Ints a{}, b{};
  const auto scale = zeros(a);
  decltype(zeros(a)) total[] = {((void)C, scale)...};
  for (long i = 0; i < rounds; ++i) {
    Ints sum[sizeof...(C)][S::kSums] = {};
    for (int quad = 0; quad < 8; ++quad) (S::quad(sum[C], a, b), ...);
    const Ints wide[] = {S::widen(sum[C])...};
    if constexpr (kScales) ((total[C] = add_group(wide[C], scale, total[C])), ...);
  }
  return (total[C][0] + ...);
}

template <class S, bool kScales>
double measure_groups(Index threads) {
  // Sums, float sums and operands are in registers.
  constexpr std::size_t kVectors = sizeof(typename S::Ints) == 64 ? 8 : S::kSums == 2 ? 3 : 5;
  const long rounds = short_limits ? 50'000 : 150'000;
  constexpr double kOperations = 2.0 * 32 * kVectors * sizeof(typename S::Ints) / 4;
  return burst_peak(threads, kOperations * static_cast<double>(rounds), [=]() noexcept {
    return run_groups<S, kScales>(rounds, std::make_index_sequence<kVectors>{}) != 0;
  });
}

/// The fastest sequence of all.
template <class... S>
Sequence best_sequence(Index threads) {
  Sequence best;
  const auto keep = [&](const Sequence& s) {
    if (s.peak > best.peak) best = s;
  };
  (keep({S::kName, measure_groups<S, false>(threads), measure_groups<S, true>(threads)}), ...);
  return best;
}

#endif

Sequence measure_sequence(Instruction instruction, Index threads) {
  switch (instruction) {
    case Instruction::fma_double:
      return {"fma double", fma_peak<double>(threads)};
    case Instruction::dot_bfloat16: {
#if defined(__AVX512BF16__)
      const auto ones = std::bit_cast<__m512bh>(_mm512_set1_epi16(0x3f80));
      const Sequence pairs{"vdpbf16ps", chain_peak(threads, 64, _mm512_set1_ps(1), [=](__m512 c) noexcept {
                             return _mm512_dpbf16_ps(c, ones, ones);
                           })};
      const Sequence widened{"fma float", fma_peak<float>(threads)};
      return pairs.peak < widened.peak ? widened : pairs;
#else
      break;
#endif
    }
    case Instruction::dot_int8:
    case Instruction::dot_int4: {
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
      return best_sequence<Quads>(threads);
#elif defined(__AVX2__)
      if (instruction == Instruction::dot_int4) return best_sequence<SmallBytes>(threads);
      return best_sequence<SignedBytes, Shorts, SplitRows>(threads);
#else
      break;
#endif
    }
    case Instruction::fma_float:
      break;
  }
  return {"fma float", fma_peak<float>(threads)};
}

/// Sums of kStep bytes at x, by vectors of 32; folds, for what g++ 12 makes of arrays in loops.
using Octet [[gnu::vector_size(32)]] = float;
inline constexpr Index kReadStep = 256;
template <std::size_t... V>
[[gnu::always_inline]] inline void add_step(Octet* sums, const char* x, std::index_sequence<V...>) noexcept {
  const auto load = [](const char* p) noexcept {
    Octet octet;
    std::memcpy(&octet, p, sizeof octet);
    return octet;
  };
  ((sums[V] += load(x + V * sizeof(Octet))), ...);
}

/// `bytes` bytes as so many streams side by side, with or without prefetch 2 KiB ahead in each.
template <bool kFetch, std::size_t... Stream>
[[gnu::always_inline]] inline float read_side_by_side(const char* x, Index bytes,
                                                      std::index_sequence<Stream...>) noexcept {
  constexpr auto kOctets = std::make_index_sequence<kReadStep / sizeof(Octet)>{};
  const Index part = bytes / static_cast<Index>(sizeof...(Stream));
  Octet sums[kReadStep / sizeof(Octet)] = {};
  const auto step = [&](const char* at) noexcept {
    if constexpr (kFetch) {  // beyond the last stream lies the next block
      for (Index line = 0; line < kReadStep; line += 64) moe::prefetch_l2(at + 2048 + line);
    }
    add_step(sums, at, kOctets);
  };
  for (Index i = 0; i < part; i += kReadStep) (step(x + static_cast<Index>(Stream) * part + i), ...);
  for (const Octet& sum : sums) sums[0] += sum;
  return sums[0][0];
}
template <std::size_t kStreams, bool kFetch>
[[gnu::noinline]] float read_streams(const char* x, Index bytes) noexcept {
  return read_side_by_side<kFetch>(x, bytes, std::make_index_sequence<kStreams>{});
}

struct ReadPattern {
  float (*read)(const char*, Index) noexcept;
  bool huge_pages;
  double best = 0;  // bytes per second in the first round
};

/// 512 MiB, as moe::Buffer asks for them (on huge pages) or on small ones.
class ReadMemory {
 public:
  static constexpr Index kBlock = Index{1} << 20;

  explicit ReadMemory(bool huge_pages) : data_(Index{1} << (short_limits ? 25 : 29)) {
#if defined(__linux__)
    if (!huge_pages) {
      madvise(data_.data(), static_cast<std::size_t>(data_.size()), MADV_NOHUGEPAGE);
      madvise(data_.data(), static_cast<std::size_t>(data_.size()), MADV_DONTNEED);
    }
#endif
    for (Index i = 0; i < data_.size(); i += 4096) data_.data()[i] = 1;
  }
  Index size() const {
    return data_.size();
  }
  const char* block(Index b) const {
    return data_.data() + b * kBlock;
  }

 private:
  moe::Buffer<char> data_;
};

double measure_pattern(const ReadMemory& memory, const ReadPattern& pattern, moe::PoolExecutor& pool) {
  std::atomic<bool> keep{false};
  const auto start = Clock::now();
  pool.parallel_for(memory.size() / ReadMemory::kBlock, [&](Index b, Index) noexcept {
    keep.store(pattern.read(memory.block(b), ReadMemory::kBlock) != 0, std::memory_order_relaxed);
  });
  return static_cast<double>(memory.size()) / seconds_since(start);
}

/// The best of all patterns the first time, and of those that were within a tenth of it from then on. Blocks
/// of 1 MiB are claimed as tasks.
double measure_read(Index threads) {
  static std::map<Index, std::vector<ReadPattern>> kept;
  static const ReadMemory huge(true);
  moe::PoolExecutor pool(threads);
  std::vector<ReadPattern>& patterns = kept[threads];
  if (patterns.empty()) {
    const ReadMemory small(false);
    for (const bool huge_pages : {true, false}) {
      for (const auto read :
           {read_streams<1, false>, read_streams<2, false>, read_streams<4, false>, read_streams<8, false>,
            read_streams<1, true>, read_streams<2, true>, read_streams<4, true>, read_streams<8, true>}) {
        ReadPattern pattern{read, huge_pages};
        for (int pass = 0; pass < 2; ++pass) {
          pattern.best = std::max(pattern.best, measure_pattern(huge_pages ? huge : small, pattern, pool));
        }
        patterns.push_back(pattern);
      }
    }
    double best = 0;
    for (const ReadPattern& pattern : patterns) best = std::max(best, pattern.best);
    // Small pages once: as fast as huge ones, they are no other limit.
    std::erase_if(patterns, [&](const ReadPattern& p) { return p.best < 0.9 * best || !p.huge_pages; });
    return best;
  }
  double best = 0;
  for (int pass = 0; pass < 2; ++pass) {
    for (const ReadPattern& pattern : patterns) best = std::max(best, measure_pattern(huge, pattern, pool));
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

/// What the last measurement said; the names of sequences and their figures belong together.
const Sequence& sequence_now(Instruction instruction, Index threads) {
  static std::map<std::pair<Instruction, Index>, std::pair<Sequence, Dated>> measured;
  auto& [sequence, dated] = measured[{instruction, threads}];
  dated.refreshed([&, &kept = sequence] {
    kept = measure_sequence(instruction, threads);
    return kept.peak;
  });
  return sequence;
}

}  // namespace

const char* name_of(Instruction instruction) {
  return sequence_now(instruction, 1).name;
}

double group_peak(Instruction instruction, Index threads) {
  return sequence_now(instruction, threads).group_peak;
}

Limits limits_now(Instruction instruction, Index threads) {
  static std::map<Index, Dated> read;
  const auto row_type =
      instruction == Instruction::fma_double ? Instruction::fma_double : Instruction::fma_float;
  return {.peak = sequence_now(instruction, threads).peak,
          .float_peak = sequence_now(row_type, threads).peak,
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
