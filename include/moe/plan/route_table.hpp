// The router's result: for every token the experts it goes to and with which weight.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "moe/core/random.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/plan/losses.hpp"

MOE_NAMESPACE_BEGIN

/// What a capacity policy, and experts in training, draw by.
struct RowDraws {
  std::optional<DrawKey> key{};              // of the call
  std::span<const std::uint64_t> row_key{};  // [T] or empty: positions; borrowed for the call

  /// Throws config_error if the call has no key.
  void require(const char* part) const {
    if (!key) impl::refuse_no_draws(part);
  }
  /// What row t draws by.
  std::uint64_t key_of(Index t) const noexcept {
    return row_key.empty() ? static_cast<std::uint64_t>(t) : row_key.data()[t];
  }
  /// 64 random bits of row t.
  std::uint64_t bits(Index t) const noexcept {
    return KeyedRandom(key.value_or(DrawKey{}), DrawStream::place).bits(key_of(t), 0);
  }
};

/// Pairs (expert, weight) by token, a token's first choice first (CSR). Every token has 0 to E pairs, no
/// expert twice. Pairs of experts that cost nothing and return nothing are elided: counted, not stored.
/// Arrays are borrowed from a workspace or a tape.
template <class Real>
struct RouteTable {
  Index tokens = 0;
  Index experts = 0;             // ids are in [0, experts)
  Index* offsets = nullptr;      // [T + 1]
  ExpertId* expert = nullptr;    // [P]
  Real* weight = nullptr;        // [P] normalised and scaled combine weight
  bool* spoiled = nullptr;       // [T] rows isolated for NaN, +inf or all-masked logits; their output is NaN
  Index room = 0;                // for pairs
  Index elided = 0;              // pairs of null experts
  std::int32_t* code = nullptr;  // [T, codes] where the router says how many (`codes_per_token()`): what it
                                 // found first, for a frame that goes on from there
  const void* coded_by = nullptr;  // that router, once it has filled them
  AuxiliaryLosses losses{};
  RowDraws draws{};

  Index pairs() const noexcept { return tokens == 0 ? 0 : offsets[tokens]; }
  Index count(Index t) const noexcept { return offsets[t + 1] - offsets[t]; }

  /// Room for `max_pairs` pairs of `tokens` tokens, and so many codes of each.
  static RouteTable carve(Arena& arena, Index tokens, Index experts, Index max_pairs, Index codes = 0) {
    RouteTable table;
    table.tokens = tokens;
    table.experts = experts;
    table.room = max_pairs;
    table.offsets = arena.take<Index>(tokens + 1);
    table.expert = arena.take<ExpertId>(max_pairs);
    table.weight = arena.take<Real>(max_pairs);
    table.spoiled = arena.take<bool>(tokens);
    if (codes > 0) table.code = arena.take<std::int32_t>(tokens * codes);
    if (!arena.measuring()) table.clear();
    return table;
  }

  /// No pairs, nothing spoiled.
  void clear() noexcept {
    for (Index t = 0; t <= tokens; ++t) offsets[t] = 0;
    for (Index t = 0; t < tokens; ++t) spoiled[t] = false;
    elided = 0;
    coded_by = nullptr;
    losses.clear();
  }

  /// Filling: for t ascending, begin_token(t), then push(t, ...) for its pairs, first choice first.
  void begin_token(Index t) noexcept { offsets[t + 1] = offsets[t]; }
  void push(Index t, ExpertId e, Real w) noexcept {
    MOE_ASSERT(offsets[t + 1] < room);
    expert[offsets[t + 1]] = e;
    weight[offsets[t + 1]] = w;
    ++offsets[t + 1];
  }
};

MOE_NAMESPACE_END
