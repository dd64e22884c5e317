// What experts specialise in, and whose pairs a capacity drops: the questions of OpenMoE, Xue et al.
// 2402.01739 (experts go by token id, little by context; drops towards the end of a sequence).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

#include "moe/analysis/routing_change.hpp"
#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/input.hpp"
#include "moe/plan/dispatch_plan.hpp"
#include "moe/plan/route_table.hpp"

MOE_NAMESPACE_BEGIN

/// The place of every row in its segment, from 0, to `position` [T]. Throws shape_error for another size or
/// segments that do not cover it.
inline void positions_in_segments(const Segments& segments, std::span<std::int32_t> position) {
  const auto tokens = static_cast<Index>(position.size());
  segments.check(tokens);
  for (Index s = 0; s < segments.count(tokens); ++s) {
    const Index first = segments.begin(s);
    for (Index t = first; t < segments.end(s, tokens); ++t)
      position[static_cast<std::size_t>(t)] = static_cast<std::int32_t>(t - first);
  }
}

/// Pairs counted by expert and by a key of their row: its token id, the id before it, its position, its task.
class ExpertsByKey {
 public:
  /// Throws config_error for sizes below 1.
  ExpertsByKey(Index keys, Index experts) : keys_(keys), experts_(experts) {
    require_range("keys", keys, 1, INT32_MAX);
    require_range("experts", experts, 1, INT32_MAX);
    count_.assign(checked_product("counts by key", keys, experts), 0);
  }

  Index keys() const noexcept { return keys_; }
  Index experts() const noexcept { return experts_; }
  /// Pairs of rows with that key on that expert.
  Index count(Index key, Index expert) const noexcept { return count_[key * experts_ + expert]; }

  /// Adds a call's pairs; `key` [T]. Throws shape_error for other sizes, route_error for a key outside [0,
  /// keys), of rows that have pairs; nothing is added then.
  void add(const RouteRecord& record, std::span<const std::int32_t> key) {
    require_extent("keys", "entries", record.tokens(), static_cast<Index>(key.size()));
    require_extent("route record", "experts", experts_, record.experts());
    for (Index t = 0; t < record.tokens(); ++t) {
      const std::int32_t k = key[static_cast<std::size_t>(t)];
      if (record.count(t) > 0 && (k < 0 || k >= keys_)) {
        fail<route_error>("keys: expected keys in [0, ", keys_, "), got ", k, " for token ", t);
      }
    }
    for (Index t = 0; t < record.tokens(); ++t) {
      const Index row = Index{key[static_cast<std::size_t>(t)]} * experts_;
      for (Index i = 0; i < record.count(t); ++i) ++count_[row + record.expert(t, i)];
    }
  }

  /// Part of the key's pairs that went to the expert; 0 for a key without pairs.
  double share(Index key, Index expert) const noexcept {
    const Index all = pairs_of(key);
    return all == 0 ? 0.0 : static_cast<double>(count(key, expert)) / static_cast<double>(all);
  }

  /// What the key tells of the expert, (H(expert) - H(expert | key)) / H(expert) over all pairs: 0 where all
  /// keys are routed alike, 1 where each has experts of its own; 1 also where one expert is alone. With few
  /// pairs per key it is above 0 by chance.
  double specialisation() const {
    Buffer<Index> load(experts_);
    Index all = 0;
    double given_key = 0;
    for (Index k = 0; k < keys_; ++k) {
      const Index of_key = pairs_of(k);
      for (Index e = 0; e < experts_; ++e) {
        load[e] += count(k, e);
        given_key -= surprise(count(k, e), of_key);
      }
      all += of_key;
    }
    double without = 0;
    for (const Index n : load) without -= surprise(n, all);
    return without > 0 ? 1 - given_key / without : 1.0;
  }

 private:
  Index pairs_of(Index key) const noexcept {
    Index all = 0;
    for (Index e = 0; e < experts_; ++e) all += count(key, e);
    return all;
  }
  /// n ln(n / all).
  static double surprise(Index n, Index all) noexcept {
    return n == 0 ? 0.0
                  : static_cast<double>(n) * std::log(static_cast<double>(n) / static_cast<double>(all));
  }

  Index keys_;
  Index experts_;
  Buffer<Index> count_;  // [keys, E]
};

/// How many pairs a capacity drops, by the position of their row in its segment: where places are given out
/// in order (CapacityOrder::first_choices_first, position) the end of a sequence loses most; where the best
/// score goes first, no position does.
class DropsByPosition {
 public:
  /// Positions beyond count as the last. Throws config_error for less than one.
  explicit DropsByPosition(Index positions) {
    require_range("positions", positions, 1, INT32_MAX);
    routed_.assign(positions, 0);
    dropped_.assign(positions, 0);
  }

  Index positions() const noexcept { return routed_.size(); }
  Index routed(Index position) const noexcept { return routed_[position]; }
  Index dropped(Index position) const noexcept { return dropped_[position]; }
  /// Part of the pairs that were dropped, 0 without pairs.
  double rate(Index position) const noexcept {
    return routed_[position] == 0
               ? 0.0
               : static_cast<double>(dropped_[position]) / static_cast<double>(routed_[position]);
  }

  /// Adds a call, with the segments that its capacity saw. Throws shape_error for segments or a plan that are
  /// not the table's.
  template <class Real>
  void add(const RouteTable<Real>& table, const DispatchPlan<Real>& plan, const Segments& segments) {
    segments.check(table.tokens);
    require_extent("dispatch plan", "tokens", table.tokens, plan.tokens);
    Index next = 0;  // of the dropped pairs, which ascend
    for (Index s = 0; s < segments.count(table.tokens); ++s) {
      const Index first = segments.begin(s);
      for (Index t = first; t < segments.end(s, table.tokens); ++t) {
        const Index at = (std::min)(t - first, positions() - 1);
        routed_[at] += table.count(t);
        for (; next < plan.dropped_count && plan.dropped[next] < table.offsets[t + 1]; ++next) ++dropped_[at];
      }
    }
  }

 private:
  Buffer<Index> routed_;   // [positions] pairs
  Buffer<Index> dropped_;  // [positions]
};

MOE_NAMESPACE_END
