// Stage 2/5 plan, first half. In: RouteTable. Out: which pairs are kept. Next: moe/plan/dispatch_plan.hpp
// How many tokens an expert takes, and who is dropped when more want it.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>

#include "moe/core/check.hpp"
#include "moe/core/input.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/plan/route_table.hpp"

MOE_NAMESPACE_BEGIN

/// `limit` clears keep[p] of the pairs that find no place; all are set before. `measure` takes from the arena
/// what `limit` will take for up to `pairs` pairs.
template <class C>
concept CapacityPolicy =
    std::copy_constructible<C> &&
    requires(const C& c, const RouteTable<float>& table, const Segments& segments, bool* keep, Arena& arena) {
      { C::coupling } -> std::convertible_to<Coupling>;
      { c.measure(arena, Index{}, Index{}) } -> std::same_as<void>;
      { c.limit(table, segments, keep, arena) } -> std::same_as<void>;
    };

/// Every pair is kept.
struct Dropless {
  static constexpr Coupling coupling = Coupling::row_independent;

  void measure(Arena&, Index, Index) const noexcept {}
  template <class Real>
  void limit(const RouteTable<Real>&, const Segments&, bool*, Arena&) const noexcept {}
};

/// Who gets a place first.
enum class CapacityOrder : std::uint8_t {
  first_choices_first,  // all first choices in token order, then all second choices, ... (GShard, 2006.16668)
  best_score_first,     // the highest combine weights of each expert; ties: lower token (Megatron "probs")
};

/// At most C tokens per expert and segment: C = `tokens_per_expert` if given, else ceil(factor * P / E) with the P
/// pairs of the segment, at least `minimum`. A capacity beyond the segment's tokens drops nothing.
class FixedCapacity {
 public:
  static constexpr Coupling coupling = Coupling::per_segment;

  struct Options {
    Index tokens_per_expert = 0;
    double factor = 0;
    Index minimum = 1;
    CapacityOrder order = CapacityOrder::first_choices_first;
  };

  /// Throws config_error unless exactly one of tokens_per_expert and factor is given and positive.
  explicit FixedCapacity(Options options) : options_(options) {
    if (options.tokens_per_expert < 0 || (options.tokens_per_expert == 0 && options.factor == 0)) {
      fail<config_error>("capacity: expected tokens_per_expert >= 1 or a factor > 0, got tokens_per_expert ",
                         options.tokens_per_expert);
    }
    if (!(options.factor >= 0) || !(options.factor <= 1e9)) {
      fail<config_error>("capacity factor: expected a finite value > 0, got ", options.factor);
    }
    if (options.tokens_per_expert > 0 && options.factor > 0) {
      fail<config_error>("capacity: expected tokens_per_expert or a factor, got both: ",
                         options.tokens_per_expert, " and ", options.factor);
    }
    require_range("minimum capacity", options.minimum, 1, PTRDIFF_MAX);
  }

  Index of(Index segment_pairs, Index experts) const noexcept {
    if (options_.tokens_per_expert > 0) return options_.tokens_per_expert;
    const double c = std::ceil(options_.factor * static_cast<double>(segment_pairs) / static_cast<double>(experts));
    return std::max(options_.minimum, static_cast<Index>(std::min(c, 1e15)));
  }

  void measure(Arena& arena, Index pairs, Index experts) const { Scratch{arena, pairs, experts}; }

  template <class Real>
  void limit(const RouteTable<Real>& table, const Segments& segments, bool* keep, Arena& arena) const {
    const Scratch scratch{arena, table.pairs(), table.experts};
    for (Index s = 0; s < segments.count(table.tokens); ++s) {
      const Index first = segments.begin(s), last = segments.end(s, table.tokens);
      const Index capacity = of(table.offsets[last] - table.offsets[first], table.experts);
      if (options_.order == CapacityOrder::first_choices_first) {
        by_choice(table, first, last, capacity, keep, scratch);
      } else {
        by_score(table, first, last, capacity, keep, scratch);
      }
    }
  }

 private:
  struct Scratch {
    Index* taken;  // [E + 1] places taken; by score: first entry of each expert's list
    Index* list;   // [P] by score: pairs of one segment, by expert
    Scratch(Arena& arena, Index pairs, Index experts)
        : taken(arena.take<Index>(experts + 1)), list(arena.take<Index>(pairs)) {}
  };

  template <class Real>
  static void by_choice(const RouteTable<Real>& table, Index first, Index last, Index capacity, bool* keep,
                        const Scratch& scratch) {
    for (Index e = 0; e < table.experts; ++e) scratch.taken[e] = 0;
    bool more = true;
    for (Index rank = 0; more; ++rank) {
      more = false;
      for (Index t = first; t < last; ++t) {
        if (rank >= table.count(t)) continue;
        more = true;
        const Index p = table.offsets[t] + rank;
        if (scratch.taken[table.expert[p]]++ >= capacity) keep[p] = false;
      }
    }
  }

  template <class Real>
  static void by_score(const RouteTable<Real>& table, Index first, Index last, Index capacity, bool* keep,
                       const Scratch& scratch) {
    // Counting sort of the segment's pairs by expert; then each overfull expert's list is split at its capacity.
    for (Index e = 0; e <= table.experts; ++e) scratch.taken[e] = 0;
    const Index begin = table.offsets[first], end = table.offsets[last];
    for (Index p = begin; p < end; ++p) ++scratch.taken[table.expert[p] + 1];
    for (Index e = 0; e < table.experts; ++e) scratch.taken[e + 1] += scratch.taken[e];
    for (Index p = begin; p < end; ++p) scratch.list[scratch.taken[table.expert[p]]++] = p;
    // Now taken[e] is the end of expert e's list, and of e - 1 its beginning.
    for (Index e = 0; e < table.experts; ++e) {
      Index* const from = scratch.list + (e == 0 ? 0 : scratch.taken[e - 1]);
      Index* const to = scratch.list + scratch.taken[e];
      if (to - from <= capacity) continue;
      const auto better = [&table](Index a, Index b) {
        return table.weight[a] != table.weight[b] ? table.weight[a] > table.weight[b] : a < b;
      };
      std::nth_element(from, from + capacity, to, better);
      for (Index* p = from + capacity; p < to; ++p) keep[*p] = false;
    }
  }

  Options options_;
};

MOE_NAMESPACE_END
