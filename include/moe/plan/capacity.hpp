// Stage 2/5 plan, first half. In: RouteTable. Out: which pairs are kept. Next: moe/plan/dispatch_plan.hpp
// How many tokens an expert takes, and who is dropped when more want it.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>

#include "moe/core/check.hpp"
#include "moe/core/input.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/plan/route_table.hpp"

MOE_NAMESPACE_BEGIN

/// `limit` clears keep[p] of the pairs that find no place; all are set before. `measure` takes from the arena
/// what `limit` will take for up to `pairs` pairs.
template <class C>
concept CapacityPolicy = std::copy_constructible<C> &&
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

namespace impl {

/// Gives out places: of every segment's pairs on expert e the first `places(segment pairs, e)` are kept.
class PlaceLimit {
 public:
  PlaceLimit(Arena& arena, Index pairs, Index experts)
      : places_(arena.take<Index>(experts)),
        taken_(arena.take<Index>(experts + 1)),
        list_(arena.take<Index>(pairs)) {}

  template <class Real, class Places>
  void limit(const RouteTable<Real>& table, const Segments& segments, CapacityOrder order,
             const Places& places, bool* keep) const {
    for (Index s = 0; s < segments.count(table.tokens); ++s) {
      const Index first = segments.begin(s), last = segments.end(s, table.tokens);
      const Index pairs = table.offsets[last] - table.offsets[first];
      for (Index e = 0; e < table.experts; ++e) places_[e] = places(pairs, e);
      if (order == CapacityOrder::first_choices_first) {
        by_choice(table, first, last, keep);
      } else {
        by_score(table, first, last, keep);
      }
    }
  }

 private:
  template <class Real>
  void by_choice(const RouteTable<Real>& table, Index first, Index last, bool* keep) const {
    for (Index e = 0; e < table.experts; ++e) taken_[e] = 0;
    bool more = true;
    for (Index rank = 0; more; ++rank) {
      more = false;
      for (Index t = first; t < last; ++t) {
        if (rank >= table.count(t)) continue;
        more = true;
        const Index p = table.offsets[t] + rank, e = table.expert[p];
        if (taken_[e]++ >= places_[e]) keep[p] = false;
      }
    }
  }

  template <class Real>
  void by_score(const RouteTable<Real>& table, Index first, Index last, bool* keep) const {
    // Counting sort of the segment's pairs by expert; then each overfull expert's list is split at its
    // places.
    for (Index e = 0; e <= table.experts; ++e) taken_[e] = 0;
    const Index begin = table.offsets[first], end = table.offsets[last];
    for (Index p = begin; p < end; ++p) ++taken_[table.expert[p] + 1];
    for (Index e = 0; e < table.experts; ++e) taken_[e + 1] += taken_[e];
    for (Index p = begin; p < end; ++p) list_[taken_[table.expert[p]]++] = p;
    // Now taken[e] is the end of expert e's list, and of e - 1 its beginning.
    for (Index e = 0; e < table.experts; ++e) {
      Index* const from = list_ + (e == 0 ? 0 : taken_[e - 1]);
      Index* const to = list_ + taken_[e];
      if (to - from <= places_[e]) continue;
      const auto better = [&table](Index a, Index b) {
        return table.weight[a] != table.weight[b] ? table.weight[a] > table.weight[b] : a < b;
      };
      std::nth_element(from, from + places_[e], to, better);
      for (Index* p = from + places_[e]; p < to; ++p) keep[*p] = false;
    }
  }

  Index* places_;  // [E]
  Index* taken_;   // [E + 1] places taken; by score: first entry of each expert's list
  Index* list_;    // [P] by score: pairs of one segment, by expert
};

/// ceil(places), at least `minimum`; beyond any batch it makes no difference.
inline Index whole_places(double places, Index minimum) noexcept {
  return std::max(minimum, static_cast<Index>(std::min(std::ceil(places), 1e15)));
}

}  // namespace impl

/// At most C tokens per expert and segment: C = `tokens_per_expert` if given, else ceil(factor * P / E) with
/// the P pairs of the segment, or with `choices` K = P / T the K floor(factor ceil(T / E)) of Tutel; at least
/// `minimum`. A capacity beyond the segment's tokens drops nothing.
class FixedCapacity {
 public:
  static constexpr Coupling coupling = Coupling::per_segment;

  struct Options {
    Index tokens_per_expert = 0;
    double factor = 0;
    Index minimum = 1;
    CapacityOrder order = CapacityOrder::first_choices_first;
    Index choices = 0;
  };

  /// Throws config_error unless exactly one of tokens_per_expert and factor is given and positive.
  explicit FixedCapacity(Options options) : options_(options) {
    if (options.tokens_per_expert < 0 || (options.tokens_per_expert == 0 && options.factor == 0)) {
      fail<config_error>("capacity: expected tokens_per_expert >= 1 or a factor > 0, got tokens_per_expert ",
                         options.tokens_per_expert);
    }
    if (!(options.factor >= 0) || !(options.factor <= 1e9)) {
      fail<config_error>("capacity factor: expected a value in (0, 1e9], got ", options.factor);
    }
    if (options.tokens_per_expert > 0 && options.factor > 0) {
      fail<config_error>("capacity: expected tokens_per_expert or a factor, got both: ",
                         options.tokens_per_expert, " and ", options.factor);
    }
    require_range("minimum capacity", options.minimum, 1, PTRDIFF_MAX);
    require_range("choices of a capacity", options.choices, 0, INT32_MAX);
  }

  Index of(Index segment_pairs, Index experts) const noexcept {
    if (options_.tokens_per_expert > 0) return options_.tokens_per_expert;
    if (options_.choices > 0) {
      const Index tokens = ceil_div(segment_pairs, options_.choices);
      const double places = std::floor(options_.factor * static_cast<double>(ceil_div(tokens, experts)));
      return impl::whole_places(places * static_cast<double>(options_.choices), options_.minimum);
    }
    return impl::whole_places(
        options_.factor * static_cast<double>(segment_pairs) / static_cast<double>(experts),
        options_.minimum);
  }

  void measure(Arena& arena, Index pairs, Index experts) const { impl::PlaceLimit{arena, pairs, experts}; }

  template <class Real>
  void limit(const RouteTable<Real>& table, const Segments& segments, bool* keep, Arena& arena) const {
    impl::PlaceLimit(arena, table.pairs(), table.experts)
        .limit(
            table, segments, options_.order,
            [&](Index pairs, Index) noexcept { return of(pairs, table.experts); }, keep);
  }

 private:
  Options options_;
};

MOE_NAMESPACE_END
