// Experts that choose their rows, of which none may be taken by too many: the capped form of expert choice
// (EC-CAP), Zhou et al. 2202.09368 section 3.2, a linear program with an entropy.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/log_softmax.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// max <S, A> + lambda H(A) over 0 <= A <= 1 with C rows for every output and at most b outputs for a row, by
/// Dykstra's alternating projections on exp(S / lambda), in the logarithms of its factors: A_te = exp(min(0,
/// g_te)), g_te = S_te / lambda - u_e - v_t, v >= 0. Then pairs are taken by falling g (ties: lower row,
/// lower output) while output and row have room: these are every output's C largest of A where those keep the
/// cap, and where the iterations were too few the cap is kept all the same.
class CappedPlan {
 public:
  struct Options {
    Index cap = 1;  // b
    double lambda = 1e-3;
    Index iterations = 100;  // ended early when nothing moves
  };

  CappedPlan(Arena& arena, Index tokens, Index outputs)
      : outputs_(outputs),
        gain_(arena.take<double>(checked_product("plan", tokens, outputs))),
        output_(arena.take<double>(tokens * outputs)),
        output_before_(arena.take<double>(tokens * outputs)),
        row_(arena.take<double>(tokens)),
        row_before_(arena.take<double>(tokens)),
        pair_(arena.take<Index>(tokens * outputs)),
        places_(arena.take<Index>(tokens * outputs)),
        room_(arena.take<Index>(tokens)) {}

  /// take(t, e) for the pairs of rows [first, last). `score(t, e)`: S, or -inf where e may not take t.
  template <class Score, class Take>
  void choose(Index first, Index last, Index capacity, const Options& options, const Score& score,
              const Take& take) const noexcept {
    if (first == last) return;
    Index pairs = 0;
    for (Index t = first; t < last; ++t) {
      for (Index e = 0; e < outputs_; ++e) {
        const double s = score(t, e);
        const bool open = !is_neg_inf(s);
        gain_[t * outputs_ + e] = open ? std::clamp(s / options.lambda, -kMost, kMost) : s;
        if (open) pair_[first * outputs_ + pairs++] = t * outputs_ + e;
      }
    }
    solve(first, last, capacity, options);
    double* const u = output_ + first * outputs_;
    Index* const places = places_ + first * outputs_;
    for (Index e = 0; e < outputs_; ++e) places[e] = capacity;
    for (Index t = first; t < last; ++t) {
      room_[t] = options.cap;
      for (Index e = 0; e < outputs_; ++e) gain_[t * outputs_ + e] -= u[e] + row_[t];
    }
    Index* const begin = pair_ + first * outputs_;
    std::sort(begin, begin + pairs, [this](Index a, Index b) noexcept {
      return gain_[a] != gain_[b] ? gain_[a] > gain_[b] : a < b;
    });
    for (const Index* p = begin; p < begin + pairs; ++p) {
      const Index t = *p / outputs_, e = *p % outputs_;
      if (places[e] == 0 || room_[t] == 0) continue;
      --places[e];
      --room_[t];
      take(t, e);
    }
  }

 private:
  static constexpr double kStill = 1e-9;  // of a logarithm
  static constexpr double kMost = 1e280;  // sums of as many as there are iterations stay finite

  /// u and v, from S / lambda in gain_.
  void solve(Index first, Index last, Index capacity, const Options& options) const noexcept {
    double* const u = output_ + first * outputs_;
    double* const u_before = output_before_ + first * outputs_;
    for (Index e = 0; e < outputs_; ++e) u_before[e] = std::numeric_limits<double>::infinity();
    for (Index t = first; t < last; ++t) row_[t] = row_before_[t] = 0;
    // S / lambda as the last projection onto A <= 1 left it.
    const auto below_one = [&](Index t, Index e) noexcept {
      return (std::min)(gain_[t * outputs_ + e], u_before[e] + row_before_[t]);
    };
    bool moves = true;
    for (Index i = 0; i < options.iterations && moves; ++i) {
      moves = false;
      for (Index e = 0; e < outputs_; ++e) {
        Index open = 0;
        for (Index t = first; t < last; ++t) open += is_neg_inf(gain_[t * outputs_ + e]) ? 0 : 1;
        const Index places = (std::min)(open, capacity);
        u[e] = 0;
        if (places == 0) continue;
        u[e] = log_sum_exp(last - first,
                           [&](Index t) noexcept { return below_one(first + t, e) - row_[first + t]; }) -
               std::log(static_cast<double>(places));
        moves = moves || !(std::abs(u[e] - u_before[e]) <= kStill);
      }
      for (Index t = first; t < last; ++t) {
        const double excess =
            log_sum_exp(outputs_, [&](Index e) noexcept { return below_one(t, e) - u[e]; }) -
            std::log(static_cast<double>(options.cap));
        row_[t] = excess > 0 ? excess : 0;  // NaN: no output may take the row
        moves = moves || !(std::abs(row_[t] - row_before_[t]) <= kStill);
      }
      std::copy_n(u, outputs_, u_before);
      std::copy_n(row_ + first, last - first, row_before_ + first);
    }
  }

  Index outputs_;
  double* gain_;           // [T, N] S / lambda, then g
  double* output_;         // [T, N] u of a segment, at its first row
  double* output_before_;  // [T, N] likewise
  double* row_;            // [T] v
  double* row_before_;     // [T]
  Index* pair_;            // [T, N] t N + e
  Index* places_;          // [T, N] left, of a segment at its first row
  Index* room_;            // [T] left
};

}  // namespace impl

MOE_NAMESPACE_END
