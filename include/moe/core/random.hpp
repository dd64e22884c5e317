// Random numbers with a key and no state. What a token draws depends on (seed, call, row key, lane, stream)
// and on nothing else: not on the batch, the order or the thread (contracts C1, C3). Philox 4x32-10: Salmon,
// Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "moe/config.hpp"
#include "moe/core/check.hpp"

MOE_NAMESPACE_BEGIN

struct PhiloxCounter {
  std::uint32_t word[4];
};

/// Ten rounds of the Philox 4x32 bijection of `counter` under a 64-bit key.
constexpr PhiloxCounter philox(PhiloxCounter counter, std::uint32_t key0, std::uint32_t key1) noexcept {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53} * counter.word[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57} * counter.word[2];
    counter = {{static_cast<std::uint32_t>(p1 >> 32) ^ counter.word[1] ^ key0, static_cast<std::uint32_t>(p1),
                static_cast<std::uint32_t>(p0 >> 32) ^ counter.word[3] ^ key1,
                static_cast<std::uint32_t>(p0)}};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return counter;
}

/// Which use a draw is for, so that two parts of one layer never see the same numbers.
enum class DrawStream : std::uint32_t {
  initialise,
  jitter,
  logit_noise,
  second_expert,
  user,
  expert,
  place,
  expert_dropout,
  choice,
  multiplier,
  transport,
  hidden_dropout,
  competition,
  row_noise
};

/// What all draws of a call have in common.
struct DrawKey {
  std::uint64_t seed = 0;
  std::uint64_t call = 0;
};

/// Gives every call a key of its own: one counter for all layers of a model and all steps of its training, so
/// that neither two layers nor two steps draw the same. Seed and calls() are its whole state: saved with the
/// model, a training goes on with the draws it would have had; a copy made before a call draws what the call
/// drew, to compute it again. Calls that run at the same time need counters of different seeds.
class DrawCounter {
 public:
  explicit DrawCounter(std::uint64_t seed, std::uint64_t calls = 0) noexcept : key_{seed, calls} {}

  std::uint64_t seed() const noexcept { return key_.seed; }
  /// Calls that have drawn.
  std::uint64_t calls() const noexcept { return key_.call; }
  /// Of the call to come.
  DrawKey key() const noexcept { return key_; }
  void advance() noexcept { ++key_.call; }

 private:
  DrawKey key_;
};

namespace impl {
[[noreturn]] inline void refuse_no_draws(const char* part) {
  fail<config_error>(
      "draws: expected a DrawCounter for ", part,
      ", which draws, got none; write in.draws = &draws, with one moe::DrawCounter draws(seed) for "
      "all layers and steps");
}
}  // namespace impl

/// Draws of one (seed, call, stream).
class KeyedRandom {
 public:
  KeyedRandom(const DrawKey& key, DrawStream stream) noexcept : KeyedRandom(key.seed, key.call, stream) {}
  KeyedRandom(std::uint64_t seed, std::uint64_t call, DrawStream stream) noexcept
      : stream_(static_cast<std::uint32_t>(stream)) {
    // The call enters through one Philox call, so that (seed, call) and (seed + 1, call - 1) share nothing.
    const PhiloxCounter key = philox({{low(call), high(call), 0, 0}}, low(seed), high(seed));
    key0_ = key.word[0];
    key1_ = key.word[1];
  }

  /// 64 random bits for row `row` and lane `lane` (an expert, a column, ...).
  std::uint64_t bits(std::uint64_t row, std::uint32_t lane) const noexcept {
    const PhiloxCounter r = philox({{low(row), high(row), lane, stream_}}, key0_, key1_);
    return (std::uint64_t{r.word[0]} << 32) | r.word[1];
  }

  /// In the open interval (0, 1).
  double uniform(std::uint64_t row, std::uint32_t lane) const noexcept { return open_unit(bits(row, lane)); }

  /// Standard normal (Box and Muller 1958).
  double normal(std::uint64_t row, std::uint32_t lane) const noexcept {
    const PhiloxCounter r = philox({{low(row), high(row), lane, stream_}}, key0_, key1_);
    const double u = open_unit((std::uint64_t{r.word[0]} << 32) | r.word[1]);
    const double v = open_unit((std::uint64_t{r.word[2]} << 32) | r.word[3]);
    return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
  }

 private:
  static constexpr std::uint32_t low(std::uint64_t x) noexcept { return static_cast<std::uint32_t>(x); }
  static constexpr std::uint32_t high(std::uint64_t x) noexcept {
    return static_cast<std::uint32_t>(x >> 32);
  }
  /// 52 bits and a half step: the midpoints of 2^52 equal cells, never 0 or 1.
  static constexpr double open_unit(std::uint64_t x) noexcept {
    return (static_cast<double>(x >> 12) + 0.5) * 0x1p-52;
  }

  std::uint32_t key0_ = 0;
  std::uint32_t key1_ = 0;
  std::uint32_t stream_;
};

MOE_NAMESPACE_END
