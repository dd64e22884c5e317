// Gives out the places of experts that take only so many tokens.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "moe/core/input.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/plan/route_table.hpp"

MOE_NAMESPACE_BEGIN

/// Who gets a place first.
enum class CapacityOrder : std::uint8_t {
  first_choices_first,  // all first choices in token order, then all second choices, ... (GShard, 2006.16668)
  best_score_first,     // the highest combine weights of each expert; ties: lower token (Megatron "probs")
  best_rows_first,    // rows by their highest combine weight, first choices of all before second ones; ties:
                      // lower token (batch-priority routing of V-MoE, 2106.05974)
  position,           // the first rows that chose the expert, as whichever choice (Megatron "position")
  random_rows_first,  // rows by a draw of (seed, call, row key), first choices of all before second ones
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
      if (order == CapacityOrder::best_score_first) {
        by_score(table, first, last, keep);
        continue;
      }
      for (Index e = 0; e < table.experts; ++e) taken_[e] = 0;
      if (order == CapacityOrder::position) {
        for (Index p = table.offsets[first]; p < table.offsets[last]; ++p) take(table, p, keep);
      } else {
        by_choice(table, rows_in_order(table, first, last, order), keep);
      }
    }
  }

 private:
  /// A place of its expert for pair p, if there is one left.
  template <class Real>
  void take(const RouteTable<Real>& table, Index p, bool* keep) const noexcept {
    const Index e = table.expert[p];
    if (taken_[e]++ >= places_[e]) keep[p] = false;
  }

  /// The rows with a pair, who is served first, in list_. Returns how many.
  template <class Real>
  Index rows_in_order(const RouteTable<Real>& table, Index first, Index last, CapacityOrder order) const {
    Index rows = 0;
    for (Index t = first; t < last; ++t) {
      if (table.count(t) > 0) list_[rows++] = t;
    }
    const auto best = [&table](Index t) {
      Real most = table.weight[table.offsets[t]];
      for (Index p = table.offsets[t]; p < table.offsets[t + 1]; ++p) {
        most = table.weight[p] > most ? table.weight[p] : most;
      }
      return most;
    };
    if (order == CapacityOrder::best_rows_first) {
      std::sort(list_, list_ + rows, [&](Index a, Index b) {
        const Real of_a = best(a), of_b = best(b);
        return of_a != of_b ? of_a > of_b : a < b;
      });
    } else if (order == CapacityOrder::random_rows_first) {
      table.draws.require("a capacity of random rows first");
      std::sort(list_, list_ + rows, [&](Index a, Index b) {
        const std::uint64_t of_a = table.draws.bits(a), of_b = table.draws.bits(b);
        return of_a != of_b ? of_a < of_b : a < b;
      });
    }
    return rows;
  }

  template <class Real>
  void by_choice(const RouteTable<Real>& table, Index rows, bool* keep) const {
    bool more = true;
    for (Index rank = 0; more; ++rank) {
      more = false;
      for (Index i = 0; i < rows; ++i) {
        const Index t = list_[i];
        if (rank >= table.count(t)) continue;
        more = true;
        take(table, table.offsets[t] + rank, keep);
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
  Index* list_;    // [P] of one segment: by score the pairs, by expert; else the rows in their order
};

/// ceil(places), at least `minimum`; beyond any batch it makes no difference.
inline Index whole_places(double places, Index minimum) noexcept {
  return (std::max)(minimum, static_cast<Index>((std::min)(std::ceil(places), 1e15)));
}

}  // namespace impl

MOE_NAMESPACE_END
