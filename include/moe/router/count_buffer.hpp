// Choices per expert of the micro-batches of a step, for losses that look at all of them: the buffer of
// "Demons in the detail", Qiu et al. 2501.11873, for gradient accumulation where counts cannot be summed
// first.
#pragma once

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/column.hpp"
#include "moe/core/moved.hpp"
#include "moe/plan/statistics.hpp"

MOE_NAMESPACE_BEGIN

/// What goes to the column `outside_counts`: what was counted before the micro-batch. The loss of the first
/// sees its own counts alone, that of the last all of them; counts of other ranks may be added as well.
class CountBuffer {
 public:
  /// Throws config_error for less than one expert.
  explicit CountBuffer(Index experts) : experts_(experts) {
    require_range("experts", experts, 1, INT32_MAX);
    count_.assign(experts, 0);
  }

  Index experts() const noexcept { return experts_; }
  /// For LayerInput::outside_counts; borrowed, and up to date for as long as the buffer is there.
  Column<double> column() const noexcept { return {count_.data(), static_cast<std::size_t>(count_.size())}; }

  /// After a micro-batch: its choices, before any capacity. `call` counts that call alone: clear() statistics
  /// that are handed to every call, or hand them to replace(). Throws shape_error for another number of
  /// experts.
  void add(const RouteStats& call) {
    check(call);
    for (Index e = 0; e < experts_; ++e) count_[e] += static_cast<double>(call.load[e]);
  }
  /// The same with statistics that have counted all micro-batches since clear().
  void replace(const RouteStats& step) {
    check(step);
    clear();
    add(step);
  }
  /// After a step of the optimiser.
  void clear() noexcept { count_.fill(0); }

 private:
  void check(const RouteStats& stats) const {
    impl::require_there("count buffer", count_.size() == experts_);
    require_extent("statistics", "experts", experts_, stats.experts());
  }

  Index experts_;         // what count_ has until it is moved from
  Buffer<double> count_;  // [E]
};

MOE_NAMESPACE_END
