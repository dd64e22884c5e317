// A balanced assignment of rows to outputs of (nearly) the greatest sum of scores: the auction of Bertsekas
// and Castanon 1989 for objects of which there are several alike. What BASE layers choose by in training;
// Lewis et al. 2103.16716.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/kernel/finite.hpp"

MOE_NAMESPACE_BEGIN

/// Rows bid for places in turn, the lower row first, each for the place that is worth most to it at its
/// price; of equal ones that of the lower output. A bid raises the price by what the next best place is worth
/// less, plus eps > 0, so that equal scores end too; eps falls by 5 from phase to phase. One thread, in
/// double: the same bits every time.
class BalancedAuction {
 public:
  static void measure(Arena& arena, Index rows, Index outputs) { BalancedAuction(arena, rows, outputs); }

  /// Memory for calls of up to so many rows and outputs.
  BalancedAuction(Arena& arena, Index rows, Index outputs)
      : price_(arena.take<double>(rows + 2 * outputs)),
        asked_(arena.take<double>(2 * outputs)),
        owner_(arena.take<std::int32_t>(rows + 2 * outputs)),
        open_(arena.take<std::int32_t>(outputs)) {}

  /// out[r]: the output of row r. `value` [R, N] is overwritten; -inf: not open to that row, and every row
  /// has one that is. With M outputs that are open to somebody each gets floor(R / M) or ceil(R / M) rows,
  /// and the sum of values is within R * tolerance * (highest - lowest) of the greatest. Where masks leave no
  /// such assignment, as many rows as can be keep to it and each of the others goes to its best output.
  void run(double* value, Index rows, Index outputs, double tolerance, ExpertId* out) {
    if (rows == 0) return;
    rows_ = rows;
    stride_ = outputs;
    value_ = value;
    const double range = prepare();
    if (m_ == 1) {
      std::fill_n(out, rows, ExpertId{open_[0]});
      return;
    }
    each_ = rows / m_;
    const Index rest = rows % m_;
    extra_ = rest > 0 ? 1 : 0;
    bidders_ = rows + (rest > 0 ? m_ - rest : 0);
    // All bidders together lose no more than bidders * eps. Prices reach 2 range: eps must count beside them.
    const double share = static_cast<double>(rows) / static_cast<double>(bidders_);
    const double last = (std::max)(tolerance * share, range * 0x1p-46);
    Index phases = 1;
    for (double eps = last; eps * 5 <= range / 4; eps *= 5) ++phases;
    std::fill_n(asked_, 2 * m_, 0.0);
    for (; phases > 0; --phases) {
      double eps = last;
      for (Index i = 1; i < phases; ++i) eps *= 5;
      auction(eps);
    }
    for (Index c = 0; c < 2 * m_; ++c) {
      for (Index s = first(c); s < first(c) + places(c); ++s) {
        if (Index{owner_[s]} < rows) out[owner_[s]] = place_of(owner_[s], c % m_);
      }
    }
  }

 private:
  // Kinds of places: kind e < M are the floor(R / M) places of open output e that rows must fill; kind M + e,
  // if R does not divide, is one more, for which bidders R, R + 1, ... bid as well, to whom all are worth 0.
  Index places(Index kind) const noexcept { return kind < m_ ? each_ : extra_; }
  Index first(Index kind) const noexcept {
    return kind < m_ ? kind * each_ : m_ * each_ + (kind - m_) * extra_;
  }

  /// Columns that are open to no row are taken out, values brought to [0, 1], and masked ones so far below
  /// that no assignment has more of them than it must. Returns the range.
  double prepare() noexcept {
    m_ = 0;
    for (Index e = 0; e < stride_; ++e) {
      bool open = false;
      for (Index r = 0; r < rows_ && !open; ++r) open = !is_neg_inf(value_[r * stride_ + e]);
      if (open) open_[m_++] = static_cast<std::int32_t>(e);
    }
    double low = (std::numeric_limits<double>::max)(), high = -low;
    bool masked = false;
    for (Index r = 0; r < rows_; ++r) {
      double* const row = value_ + r * stride_;
      for (Index e = 0; e < m_; ++e) {
        row[e] = row[open_[e]] / 4;  // so that no difference overflows
        masked = masked || is_neg_inf(row[e]);
        if (is_neg_inf(row[e])) continue;
        low = (std::min)(low, row[e]);
        high = (std::max)(high, row[e]);
      }
    }
    const double spread = high > low ? high - low : 1;
    closed_ = -2.0 * static_cast<double>(rows_ + 1);
    for (Index r = 0; r < rows_; ++r) {
      double* const row = value_ + r * stride_;
      for (Index e = 0; e < m_; ++e) row[e] = is_neg_inf(row[e]) ? closed_ : (row[e] - low) / spread;
    }
    return masked ? 1 - closed_ : 1;
  }

  /// One phase, from the prices that the last one ended with.
  void auction(double eps) noexcept {
    for (Index c = 0; c < 2 * m_; ++c) {
      std::fill_n(price_ + first(c), places(c), asked_[c]);
      std::fill_n(owner_ + first(c), places(c), -1);
    }
    for (Index i = 0; i < bidders_; ++i) {
      for (Index bidder = i; bidder >= 0;) bidder = bid(bidder, eps);
    }
  }

  /// The bidder takes the cheapest place of its best kind; returns who had it, or -1.
  Index bid(Index bidder, double eps) noexcept {
    constexpr double kNone = -(std::numeric_limits<double>::max)();
    const bool is_row = bidder < rows_;
    const double* const value = value_ + (is_row ? bidder * stride_ : 0);
    double best = kNone, next = kNone;
    Index kind = 0;
    const auto look = [&](Index c, double worth) {
      if (worth > best) {
        next = best;
        best = worth;
        kind = c;
      } else if (worth > next) {
        next = worth;
      }
    };
    if (is_row && each_ > 0) {
      for (Index e = 0; e < m_; ++e) look(e, value[e] - asked_[e]);
    }
    if (extra_ > 0) {
      for (Index e = 0; e < m_; ++e) look(m_ + e, (is_row ? value[e] : 0.0) - asked_[m_ + e]);
    }
    return replace_cheapest(kind, asked_[kind] + (best - next) + eps, bidder);
  }

  /// Places of a kind are a heap, the cheapest first.
  Index replace_cheapest(Index kind, double price, Index bidder) noexcept {
    double* const of = price_ + first(kind);
    std::int32_t* const owner = owner_ + first(kind);
    const Index n = places(kind), before = owner[0];
    Index hole = 0;
    for (Index child = 1; child < n; child = 2 * hole + 1) {
      if (child + 1 < n && of[child + 1] < of[child]) ++child;
      if (of[child] >= price) break;
      of[hole] = of[child];
      owner[hole] = owner[child];
      hole = child;
    }
    of[hole] = price;
    owner[hole] = static_cast<std::int32_t>(bidder);
    asked_[kind] = of[0];
    return before;
  }

  /// Open output e, or the row's best if that is masked for it.
  ExpertId place_of(Index row, Index e) const noexcept {
    const double* const value = value_ + row * stride_;
    return open_[value[e] != closed_ ? e : std::max_element(value, value + m_) - value];
  }

  double* price_;        // [places] by kind
  double* asked_;        // [2 M] of the cheapest place of each kind
  std::int32_t* owner_;  // [places]
  std::int32_t* open_;   // [M]
  double* value_ = nullptr;
  double closed_ = 0;  // the value of a masked output
  Index rows_ = 0, stride_ = 0, m_ = 0, bidders_ = 0;
  Index each_ = 0, extra_ = 0;  // places of an output: must be filled, may be
};

MOE_NAMESPACE_END
