// What a call that is refused half way leaves behind: nothing.
#pragma once

#include "moe/core/random.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/plan/statistics.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// The counts of a call of one router, for a CallRollback.
struct RouterCounts {
  Index experts;

  /// Throws shape_error for counts of another number of experts.
  void open(RouteStats& stats) const { stats.require_experts(experts); }
  /// f(stats, experts) for each; `stats` is null where there are none.
  template <class F>
  void each(RouteStats* stats, const F& f) const {
    f(stats, experts);
  }
};

/// Draws and counts of a call that a later layer, or later rows, may refuse: unless it is kept, they are as
/// before.
class CallRollback {
 public:
  /// `counts`: those of the call (RouterCounts, LayerCounts of depth). Throws as counts.open().
  template <class Counts>
  CallRollback(DrawCounter* draws, RouteStats* stats, const Counts& counts, Arena& arena) requires requires {
    counts.open(*stats);
  } : draws_(draws) {
    Index number = 0, all = 0;
    counts.each(nullptr, [&](RouteStats*, Index experts) {
      ++number;
      all += experts;
    });
    saved_ = arena.take<Saved>(number);
    Index* load = arena.take<Index>(all);
    double* gate_mass = arena.take<double>(all);
    if (arena.measuring()) return;
    if (draws_ != nullptr) before_ = *draws_;
    if (stats == nullptr) return;
    counts.open(*stats);
    counts.each(stats, [&](RouteStats* own, Index experts) {
      const Index counted = own->experts() == experts ? experts : 0;
      saved_[number_++] = {own,         load,         gate_mass,   counted,
                           own->tokens, own->dropped, own->elided, own->spoiled};
      for (Index e = 0; e < counted; ++e) {
        load[e] = own->load[e];
        gate_mass[e] = own->gate_mass[e];
      }
      load += counted;
      gate_mass += counted;
    });
  }
  CallRollback(DrawCounter* draws, RouteStats* stats, Index experts, Arena& arena)
      : CallRollback(draws, stats, RouterCounts{experts}, arena) {}
  CallRollback(const CallRollback&) = delete;
  CallRollback& operator=(const CallRollback&) = delete;
  ~CallRollback() {
    if (kept_) return;
    if (draws_ != nullptr) *draws_ = before_;
    for (Index i = 0; i < number_; ++i) saved_[i].restore();
  }

  void keep() noexcept { kept_ = true; }

 private:
  struct Saved {
    RouteStats* stats;
    const Index* load;
    const double* gate_mass;
    Index experts;  // 0: no counts yet
    Index tokens, dropped, elided, spoiled;

    void restore() const noexcept {
      stats->load.fill(0);
      stats->gate_mass.fill(0);
      stats->tokens = tokens;
      stats->dropped = dropped;
      stats->elided = elided;
      stats->spoiled = spoiled;
      for (Index e = 0; e < experts; ++e) {
        stats->load[e] = load[e];
        stats->gate_mass[e] = gate_mass[e];
      }
    }
  };

  DrawCounter* draws_;
  DrawCounter before_{0};
  Saved* saved_ = nullptr;
  Index number_ = 0;
  bool kept_ = false;
};

}  // namespace impl

MOE_NAMESPACE_END
