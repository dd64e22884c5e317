// Keys of hash layers that look at two neighbouring tokens: the bigram hash of Roller et al., "Hash layers
// for large sparse models", 2106.04426.
#pragma once

#include <cstdint>
#include <span>

#include "moe/core/check.hpp"
#include "moe/core/column.hpp"
#include "moe/core/input.hpp"
#include "moe/core/random.hpp"

MOE_NAMESPACE_BEGIN

/// For every row a key in [0, buckets) of its id and the one before it in its segment (none: a value of its
/// own), to be handed to a HashRouter as `token_id`; its table has `buckets` entries, such as
/// HashTable::random(buckets, experts, seed). Equal bigrams have equal keys, whatever else is in the call;
/// different ones share a key by chance, as 1 in `buckets`. Ids may be any. Throws shape_error for a `key` of
/// another size or segments that do not cover the ids, config_error for less than one bucket.
inline void bigram_keys(const Column<TokenId>& ids, const Segments& segments, Index buckets,
                        std::uint64_t seed, std::span<TokenId> key) {
  const auto tokens = static_cast<Index>(ids.size());
  require_range("buckets", buckets, 1, INT32_MAX);
  require_extent("keys", "entries", tokens, static_cast<Index>(key.size()));
  segments.check(tokens);
  const KeyedRandom draw(seed, 3, DrawStream::initialise);
  for (Index s = 0; s < segments.count(tokens); ++s) {
    const Index first = segments.begin(s);
    std::uint64_t before = 1ULL << 32;  // no id
    for (Index t = first; t < segments.end(s, tokens); ++t) {
      const auto id = static_cast<std::uint32_t>(ids[t]);
      const std::uint64_t bits = draw.bits(before, id);
      before = id;
      key[static_cast<std::size_t>(t)] = static_cast<TokenId>(bits % static_cast<std::uint64_t>(buckets));
    }
  }
}

MOE_NAMESPACE_END
