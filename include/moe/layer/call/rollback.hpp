// What a call that is refused half way leaves behind: nothing.
#pragma once

#include "moe/core/random.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/plan/statistics.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// Draws and counts of a call that a later layer, or later rows, may refuse: unless it is kept, they are as
/// before.
class CallRollback {
 public:
  /// `experts` of the counts. Throws shape_error for counts of another number.
  CallRollback(DrawCounter* draws, RouteStats* stats, Index experts, Arena& arena)
      : draws_(draws),
        stats_(stats),
        load_(arena.take<Index>(experts)),
        gate_mass_(arena.take<double>(experts)) {
    if (arena.measuring()) return;
    if (draws_ != nullptr) before_ = *draws_;
    if (stats_ == nullptr) return;
    stats_->require_experts(experts);
    tokens_ = stats_->tokens;
    dropped_ = stats_->dropped;
    elided_ = stats_->elided;
    spoiled_ = stats_->spoiled;
    counted_ = stats_->experts() == experts ? experts : 0;
    for (Index e = 0; e < counted_; ++e) {
      load_[e] = stats_->load[e];
      gate_mass_[e] = stats_->gate_mass[e];
    }
  }
  CallRollback(const CallRollback&) = delete;
  CallRollback& operator=(const CallRollback&) = delete;
  ~CallRollback() {
    if (kept_) return;
    if (draws_ != nullptr) *draws_ = before_;
    if (stats_ == nullptr) return;
    stats_->clear();
    stats_->tokens = tokens_;
    stats_->dropped = dropped_;
    stats_->elided = elided_;
    stats_->spoiled = spoiled_;
    for (Index e = 0; e < counted_; ++e) {
      stats_->load[e] = load_[e];
      stats_->gate_mass[e] = gate_mass_[e];
    }
  }

  void keep() noexcept { kept_ = true; }

 private:
  DrawCounter* draws_;
  RouteStats* stats_;
  DrawCounter before_{0};
  Index* load_;
  double* gate_mass_;
  Index tokens_ = 0, dropped_ = 0, elided_ = 0, spoiled_ = 0, counted_ = 0;
  bool kept_ = false;
};

}  // namespace impl

MOE_NAMESPACE_END
