// Experts for all tasks, for a category of tasks and for one task (column `task`): the hierarchy mask of
// HoME (of Kuaishou), Wang et al. 2408.05430.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/router/scorer/concept.hpp"

MOE_NAMESPACE_BEGIN

struct HierarchyMaskOptions {
  std::span<const Index> category{};  // of each task, in [0, categories)
  Index shared = 1;                   // experts that all tasks see, the first ids
  Index per_category = 1;             // experts of each category, behind them
  Index per_task = 1;                 // experts of each task, the last ids
};

/// An ExpertMask (router/scorer/masked.hpp): a row of task i sees the shared outputs, those of its category
/// and its own; all see equally many.
class HierarchyMask {
 public:
  static constexpr const char* kName = "hierarchy_mask";
  using Options = HierarchyMaskOptions;

  /// Throws config_error for no task, a category below 0, or counts below 0 or all 0.
  explicit HierarchyMask(const Options& o)
      : shared_(o.shared), per_category_(o.per_category), per_task_(o.per_task) {
    constexpr Index kMost = 1 << 20;
    require_range("tasks of the hierarchy", static_cast<Index>(o.category.size()), 1, kMost);
    require_range("shared experts", o.shared, 0, kMost);
    require_range("experts of a category", o.per_category, 0, kMost);
    require_range("experts of a task", o.per_task, 0, kMost);
    require_range("experts that a task sees", seen(), 1, 3 * kMost);
    for (const Index c : o.category) {
      require_range("category of a task", c, 0, kMost);
      categories_ = (std::max)(categories_, c + 1);
    }
    category_.copy_from(o.category.data(), static_cast<Index>(o.category.size()));
  }

  Index tasks() const noexcept { return category_.size(); }
  /// Outputs that a task sees, and all.
  Index seen() const noexcept { return shared_ + per_category_ + per_task_; }
  Index outputs() const noexcept { return shared_ + categories_ * per_category_ + tasks() * per_task_; }
  /// Outputs of each task alone.
  Index own() const noexcept { return per_task_; }
  /// The k-th, of seen(), that a task sees, ascending: shared ones, its category's, its own.
  Index expert(Index task, Index k) const noexcept {
    if (k < shared_) return k;
    if (k < shared_ + per_category_) return k + category_[task] * per_category_;
    return k + (categories_ - 1) * per_category_ + task * per_task_;
  }
  /// Which of the task's own outputs this is, or -1.
  Index own_index(Index task, Index expert) const noexcept {
    const Index at = expert - (outputs() - (tasks() - task) * per_task_);
    return at >= 0 && at < per_task_ ? at : -1;
  }
  bool sees(Index task, Index expert) const noexcept {
    if (expert < shared_) return true;
    const Index in_categories = expert - shared_;
    if (in_categories < categories_ * per_category_) return in_categories / per_category_ == category_[task];
    return (in_categories - categories_ * per_category_) / per_task_ == task;
  }

  /// Throws shape_error unless they are all the outputs.
  void check(Index outputs_of_router) const {
    require_extent("hierarchy mask", "experts", outputs_of_router, outputs());
  }
  /// Throws config_error without tasks, route_error for one that is not there.
  template <class Real>
  void check_call(const RouterInput<Real>& in) const {
    if (in.tokens() > 0 && in.task.empty()) {
      fail<config_error>("task: expected ", in.tokens(), " tasks, one for each row, got none");
    }
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.takes_part(t)) continue;
      if (in.task[t] < 0 || in.task[t] >= tasks()) {
        fail<route_error>("task: expected numbers in [0, ", tasks(), "), got ", in.task[t], " for token ", t);
      }
    }
  }
  void measure(Arena&, Index) const noexcept {}
  template <class Real>
  auto hidden(const RouterInput<Real>& in, Index, Arena&) const noexcept {
    return [this, &in](Index t, Index e) noexcept -> bool {
      return in.takes_part(t) && !sees(Index{in.task.data()[t]}, e);
    };
  }

 private:
  Index shared_, per_category_, per_task_;
  Index categories_ = 0;
  Buffer<Index> category_;  // [tasks]
};

MOE_NAMESPACE_END
