// Every task has its own block of experts (column `task`).
#pragma once

#include <cstdint>
#include <span>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/router/scorer/concept.hpp"

MOE_NAMESPACE_BEGIN

/// An ExpertMask (router/scorer/masked.hpp): rows of task i see the i-th block of outputs alone.
class TaskMask {
 public:
  static constexpr const char* kName = "task_mask";

  /// `experts`: how many outputs each task has, in order. Throws config_error for none, or a number below 1.
  explicit TaskMask(std::span<const Index> experts) {
    if (experts.empty()) fail<config_error>("task mask: expected the experts of at least 1 task, got none");
    first_.assign(static_cast<Index>(experts.size()) + 1, 0);
    for (Index i = 0; i < tasks(); ++i) {
      const Index own = experts[static_cast<std::size_t>(i)];
      require_range("experts of a task", own, 1, INT32_MAX);
      first_[i + 1] = first_[i] + own;
    }
  }

  Index tasks() const noexcept { return first_.size() - 1; }
  bool sees(Index task, Index expert) const noexcept {
    return expert >= first_[task] && expert < first_[task + 1];
  }

  /// Throws shape_error unless the blocks are all the outputs.
  void check(Index outputs) const { require_extent("task mask", "experts", outputs, first_[tasks()]); }
  /// Throws config_error without tasks, route_error for one without experts.
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
  Buffer<Index> first_;  // [tasks + 1] outputs of task i: [first_[i], first_[i + 1])
};

MOE_NAMESPACE_END
