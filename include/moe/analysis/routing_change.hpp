// How routes of one batch differ between checkpoints of a router: saturation, change rate and utilisation, as
// in "Shared experts and normalised sigmoid gating", 2505.10860.
#pragma once

#include <cmath>
#include <cstdint>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/plan/route_table.hpp"

MOE_NAMESPACE_BEGIN

/// Where every token of a call went, kept: tables are borrowed.
class RouteRecord {
 public:
  template <class Real>
  explicit RouteRecord(const RouteTable<Real>& table) : experts_(table.experts) {
    offsets_.copy_from(table.offsets, table.tokens + 1);
    expert_.copy_from(table.expert, table.pairs());
  }

  Index tokens() const noexcept { return offsets_.size() - 1; }
  Index experts() const noexcept { return experts_; }
  Index count(Index t) const noexcept { return offsets_[t + 1] - offsets_[t]; }
  ExpertId expert(Index t, Index i) const noexcept { return expert_[offsets_[t] + i]; }
  bool chose(Index t, ExpertId e) const noexcept {
    for (Index i = 0; i < count(t); ++i) {
      if (expert(t, i) == e) return true;
    }
    return false;
  }

 private:
  Index experts_;
  Buffer<Index> offsets_;    // [T + 1]
  Buffer<ExpertId> expert_;  // [P]
};

/// Mean over tokens of the share of the final checkpoint's experts that an earlier one chose already: 1 at
/// the end. Tokens that the final one sends nowhere do not count; 0 without others. Throws shape_error for
/// records of different batches.
inline double route_saturation(const RouteRecord& earlier, const RouteRecord& final_checkpoint) {
  require_extent("route record", "tokens", final_checkpoint.tokens(), earlier.tokens());
  require_extent("route record", "experts", final_checkpoint.experts(), earlier.experts());
  double sum = 0;
  Index counted = 0;
  for (Index t = 0; t < earlier.tokens(); ++t) {
    const Index count = final_checkpoint.count(t);
    Index kept = 0;
    for (Index i = 0; i < count; ++i) kept += earlier.chose(t, final_checkpoint.expert(t, i)) ? 1 : 0;
    if (count > 0) sum += static_cast<double>(kept) / static_cast<double>(count), ++counted;
  }
  return counted == 0 ? 0.0 : sum / static_cast<double>(counted);
}

/// Mean over tokens of the share of their experts that a checkpoint has not from the one before it: 0 where
/// nothing moves. Tokens and errors as above.
inline double route_change_rate(const RouteRecord& before, const RouteRecord& after) {
  Index counted = 0;
  for (Index t = 0; t < after.tokens(); ++t) counted += after.count(t) > 0 ? 1 : 0;
  return counted == 0 ? 0.0 : 1 - route_saturation(before, after);
}

/// Entropy of the choices over the experts by its maximum ln E: 1 where all are used alike, 0 where one is
/// alone.
inline double expert_utilisation(const RouteRecord& record) {
  Buffer<Index> load(record.experts());
  Index all = 0;
  for (Index t = 0; t < record.tokens(); ++t) {
    for (Index i = 0; i < record.count(t); ++i) ++load[record.expert(t, i)], ++all;
  }
  double entropy = 0;
  for (const Index n : load) {
    const double share = all == 0 ? 0.0 : static_cast<double>(n) / static_cast<double>(all);
    if (share > 0) entropy -= share * std::log(share);
  }
  return record.experts() < 2 ? 1.0 : entropy / std::log(static_cast<double>(record.experts()));
}

MOE_NAMESPACE_END
