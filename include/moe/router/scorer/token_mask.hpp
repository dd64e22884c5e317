// Which experts a vocabulary id may go to: few for rare ids, more for frequent ones. MaskMoE, 2407.09816.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/random.hpp"
#include "moe/core/workspace.hpp"
#include "moe/router/hash_table.hpp"

MOE_NAMESPACE_BEGIN

struct TokenMaskOptions {
  Index experts = 0;            // E
  Index rare = 1;               // experts that a rare id sees
  Index frequent = 8;           // and a frequent one
  double frequent_share = 0.4;  // the most frequent ids that make up this share of all tokens are frequent
  std::uint64_t seed = 0;
};

/// An ExpertMask (router/scorer/masked.hpp) by LayerInput::token_id. Which experts an id sees depends on
/// seed, id and its number of experts alone: more experts are the same ones and others.
class TokenMask {
 public:
  static constexpr const char* kName = "token_mask";

  /// `counts` [V]: how often each vocabulary id occurs. Equal counts: the lower id counts as more frequent.
  /// Throws config_error for no or negative counts, numbers of experts that are not 1 <= rare <= frequent <=
  /// E, or a share outside [0, 1].
  static TokenMask by_frequency(std::span<const std::int64_t> counts, const TokenMaskOptions& o) {
    require_range("experts", o.experts, 1, INT32_MAX);
    require_range("experts of a frequent id", o.frequent, 1, o.experts);
    require_range("experts of a rare id", o.rare, 1, o.frequent);
    if (!(o.frequent_share >= 0 && o.frequent_share <= 1)) {
      fail<config_error>("share of frequent ids: expected a value in [0, 1], got ", o.frequent_share);
    }
    TokenMask mask;
    mask.experts_ = o.experts;
    mask.vocabulary_ = static_cast<Index>(counts.size());
    require_range("vocabulary", mask.vocabulary_, 1, INT32_MAX);
    mask.hidden_.assign(checked_product("token mask", mask.vocabulary_, o.experts), true);
    Buffer<Index> by_count(mask.vocabulary_);
    double total = 0, seen = 0;
    for (Index v = 0; v < mask.vocabulary_; ++v) {
      const std::int64_t count = counts[static_cast<std::size_t>(v)];
      if (count < 0)
        fail<config_error>("token counts: expected counts >= 0, got ", count, " for token id ", v);
      by_count[v] = v;
      total += static_cast<double>(count);
    }
    std::sort(by_count.begin(), by_count.end(), [&](Index a, Index b) {
      const auto of_a = counts[static_cast<std::size_t>(a)], of_b = counts[static_cast<std::size_t>(b)];
      return of_a != of_b ? of_a > of_b : a < b;
    });
    for (const Index v : by_count) {
      mask.open(v, seen < o.frequent_share * total ? o.frequent : o.rare, o.seed);
      seen += static_cast<double>(counts[static_cast<std::size_t>(v)]);
    }
    return mask;
  }

  Index vocabulary() const noexcept { return vocabulary_; }
  Index experts() const noexcept { return experts_; }
  bool sees(Index token_id, Index expert) const noexcept { return !hidden_[token_id * experts_ + expert]; }

  void check(Index outputs) const { require_extent("token mask", "experts", outputs, experts_); }
  template <class Real>
  void check_call(const RouterInput<Real>& in) const {
    impl::check_token_ids(in, vocabulary_);
  }
  void measure(Arena&, Index) const noexcept {}
  template <class Real>
  auto hidden(const RouterInput<Real>& in, Index, Arena&) const noexcept {
    return [this, &in](Index t, Index e) noexcept -> bool {
      return in.takes_part(t) && !sees(Index{in.token_id.data()[t]}, e);
    };
  }

 private:
  TokenMask() = default;

  /// The `count` experts of id v whose draws are smallest.
  void open(Index v, Index count, std::uint64_t seed) {
    const KeyedRandom draw(seed, 0, DrawStream::initialise);
    const auto before = [&](Index a, Index b) {
      const auto of_a = draw.bits(static_cast<std::uint64_t>(v), static_cast<std::uint32_t>(a));
      const auto of_b = draw.bits(static_cast<std::uint64_t>(v), static_cast<std::uint32_t>(b));
      return of_a != of_b ? of_a < of_b : a < b;
    };
    Buffer<Index> order(experts_);
    for (Index e = 0; e < experts_; ++e) order[e] = e;
    std::partial_sort(order.begin(), order.begin() + count, order.end(), before);
    for (Index i = 0; i < count; ++i) hidden_[v * experts_ + order[i]] = false;
  }

  Index vocabulary_ = 0;
  Index experts_ = 0;
  Buffer<bool> hidden_;  // [V, E]
};

MOE_NAMESPACE_END
