// Which experts every vocabulary id goes to, fixed before training. Roller et al., "Hash layers for large
// sparse models", 2106.04426.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/input.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/random.hpp"

MOE_NAMESPACE_BEGIN

/// Which expert each vocabulary id goes to, for H hash functions.
class HashTable {
 public:
  Index vocabulary() const noexcept { return vocabulary_; }
  Index experts() const noexcept { return experts_; }
  Index hashes() const noexcept { return hashes_; }
  ExpertId expert(Index hash, Index token_id) const noexcept { return id_[hash * vocabulary_ + token_id]; }

  /// A table of the caller: `ids` [H * V], row h the expert of every vocabulary id under hash h. Throws
  /// shape_error, route_error for ids outside [0, experts) or two hashes that send one token to one expert.
  static HashTable own(std::span<const ExpertId> ids, Index vocabulary, Index experts, Index hashes = 1) {
    HashTable table(vocabulary, experts, hashes);
    require_extent("hash table", "entries", table.id_.size(), static_cast<Index>(ids.size()));
    for (Index i = 0; i < table.id_.size(); ++i) {
      const ExpertId e = ids[static_cast<std::size_t>(i)];
      if (e < 0 || e >= experts) {
        fail<route_error>("hash table: expected expert ids in [0, ", experts, "), got ", e, " for token id ",
                          i % vocabulary);
      }
      table.id_[i] = e;
    }
    for (Index v = 0; v < vocabulary; ++v) {
      for (Index h = 1; h < hashes; ++h) {
        for (Index other = 0; other < h; ++other) {
          if (table.expert(h, v) == table.expert(other, v)) {
            fail<route_error>("hash table: expected different experts from different hashes, got ",
                              table.expert(h, v), " twice for token id ", v);
          }
        }
      }
    }
    return table;
  }

  /// Uniform random. With several hashes, hash h has its own pool of experts / hashes experts (MultiHash), so
  /// `experts` must be a multiple of `hashes`.
  static HashTable random(Index vocabulary, Index experts, std::uint64_t seed, Index hashes = 1) {
    HashTable table(vocabulary, experts, hashes);
    const Index pool = table.pool();
    const KeyedRandom draw(seed, 0, DrawStream::initialise);
    for (Index h = 0; h < hashes; ++h) {
      for (Index v = 0; v < vocabulary; ++v) {
        // 64 random bits modulo the pool: off uniform by less than pool / 2^64.
        const std::uint64_t bits = draw.bits(static_cast<std::uint64_t>(v), static_cast<std::uint32_t>(h));
        table.set(h, v, h * pool + static_cast<Index>(bits % static_cast<std::uint64_t>(pool)));
      }
    }
    return table;
  }

  /// Balanced by corpus counts: ids in order of falling count (ties: lower id), each to the expert with the
  /// least total so far (ties: lower expert), so that the loads differ by at most one id's count. With
  /// several hashes every pool is balanced; `seed` then shuffles ids of equal count differently per hash.
  static HashTable balanced(std::span<const std::int64_t> counts, Index experts, Index hashes = 1,
                            std::uint64_t seed = 0) {
    HashTable table(static_cast<Index>(counts.size()), experts, hashes);
    const Index pool = table.pool(), vocabulary = table.vocabulary();
    for (const std::int64_t count : counts) {
      if (count < 0) fail<config_error>("hash counts: expected counts >= 0, got ", count);
    }
    const KeyedRandom draw(seed, 1, DrawStream::initialise);
    struct Entry {
      std::int64_t count;
      std::uint64_t shuffle;
      Index id;
    };
    Buffer<Entry> order;
    order.resize(vocabulary);
    Buffer<std::int64_t> load;
    for (Index h = 0; h < hashes; ++h) {
      for (Index v = 0; v < vocabulary; ++v) {
        const std::uint64_t shuffle =
            h == 0 ? 0 : draw.bits(static_cast<std::uint64_t>(v), static_cast<std::uint32_t>(h));
        order[v] = {counts[static_cast<std::size_t>(v)], shuffle, v};
      }
      std::sort(order.begin(), order.end(), [](const Entry& a, const Entry& b) {
        if (a.count != b.count) return a.count > b.count;
        return a.shuffle != b.shuffle ? a.shuffle < b.shuffle : a.id < b.id;
      });
      load.assign(pool, 0);
      for (const Entry& entry : order) {
        Index least = 0;
        for (Index e = 1; e < pool; ++e) {
          if (load[e] < load[least]) least = e;
        }
        load[least] += entry.count;
        table.set(h, entry.id, h * pool + least);
      }
    }
    return table;
  }

 private:
  HashTable(Index vocabulary, Index experts, Index hashes)
      : vocabulary_(vocabulary), experts_(experts), hashes_(hashes) {
    require_range("vocabulary", vocabulary, 1, INT32_MAX);
    require_range("experts", experts, 1, INT32_MAX);
    require_range("hashes", hashes, 1, experts);
    id_.assign(checked_product("hash table", hashes, vocabulary), 0);
  }

  Index pool() const {
    if (experts_ % hashes_ != 0) {
      fail<config_error>("hashes: expected a divisor of the ", experts(), " experts, got ", hashes());
    }
    return experts_ / hashes_;
  }
  void set(Index hash, Index token_id, Index expert) noexcept {
    id_[hash * vocabulary_ + token_id] = static_cast<ExpertId>(expert);
  }

  impl::Movable<Index> vocabulary_;
  impl::Movable<Index> experts_;
  impl::Movable<Index> hashes_;
  Buffer<ExpertId> id_;  // [H, V]
};

namespace impl {

/// Throws config_error without token ids, route_error for one outside the vocabulary.
template <class Real>
void check_token_ids(const RouterInput<Real>& in, Index vocabulary) {
  if (in.tokens() > 0 && in.token_id.empty()) {
    fail<config_error>("token_id: expected ", in.tokens(), " vocabulary ids, got none");
  }
  for (Index t = 0; t < in.tokens(); ++t) {
    if (!in.takes_part(t)) continue;
    if (in.token_id[t] < 0 || in.token_id[t] >= vocabulary) {
      fail<route_error>("token_id: expected ids in [0, ", vocabulary, "), got ", in.token_id[t],
                        " for token ", t);
    }
  }
}

}  // namespace impl

MOE_NAMESPACE_END
