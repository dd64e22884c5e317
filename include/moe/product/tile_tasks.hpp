// Cuts the products of all groups (experts) into ONE flat list of tasks for the workers, balanced under skew.
//
// A group's output is rows x units (a unit is a panel or a block of columns). Rows are cut into even chunks
// of at most `row_limit`, because a chunk's rows should stay in the second-level cache; units are cut by
// cost. Tasks are handed out in order, so the cut is guided: a task is at most 1 / kTasksPerWorker of what
// one worker's share of the work still to hand out is, hence the last ones are small and the workers end
// together.
#pragma once

#include <algorithm>

#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

/// What a group asks for. `unit_cost`: of one unit for one row chunk, in any measure the groups share.
struct GroupExtent {
  Index rows = 0;  // 0: nothing to do
  Index row_limit = 1;
  Index units = 0;
  Index unit_cost = 1;
};

struct TileTask {
  Index group = 0;
  Index row = 0, row_end = 0;  // within the group
  Index unit = 0, unit_end = 0;
};

/// Elements of the array a list of tasks for `groups` groups needs.
constexpr Index task_list_size(Index groups) noexcept {
  return groups + 1;
}

/// Extents come from extent_of(group), asked again for each task: only the number of tasks before each group
/// is stored, in an array of the caller. Row chunks of the same units are neighbours in the list.
template <class ExtentOf>
class TaskList {
 public:
  /// `first_task` [task_list_size(groups)]. A task below `least_cost` is not cut further.
  TaskList(Index* first_task, Index groups, Index workers, Index least_cost, ExtentOf extent_of) noexcept
      : first_task_(first_task), groups_(groups), extent_of_(extent_of) {
    Index left = 0;
    for (Index g = 0; g < groups; ++g) left += cost(extent_of_(g));
    first_task[0] = 0;
    for (Index g = 0; g < groups; ++g) {
      const GroupExtent extent = extent_of_(g);
      const Index most = (std::max)(least_cost, left / (kTasksPerWorker * workers));
      Index cuts = 0;
      if (cost(extent) > 0) {
        cuts = workers == 1 ? 1 : std::clamp<Index>(extent.units * extent.unit_cost / most, 1, extent.units);
      }
      first_task[g + 1] = first_task[g] + chunks(extent) * cuts;
      left -= cost(extent);
    }
  }

  Index size() const noexcept { return first_task_[groups_]; }

  TileTask operator[](Index task) const noexcept {
    MOE_ASSERT(task >= 0 && task < size());
    Index group = 0;  // the last group whose first task is not after `task`
    for (Index end = groups_; end - group > 1;) {
      const Index middle = group + (end - group) / 2;
      (first_task_[middle] <= task ? group : end) = middle;
    }
    const GroupExtent extent = extent_of_(group);
    const Index row_chunks = chunks(extent);
    const Index cuts = (first_task_[group + 1] - first_task_[group]) / row_chunks;
    const Index chunk = (task - first_task_[group]) % row_chunks;
    const Index cut = (task - first_task_[group]) / row_chunks;
    return {.group = group,
            .row = extent.rows * chunk / row_chunks,
            .row_end = extent.rows * (chunk + 1) / row_chunks,
            .unit = extent.units * cut / cuts,
            .unit_end = extent.units * (cut + 1) / cuts};
  }

 private:
  static constexpr Index kTasksPerWorker = 16;

  static Index chunks(const GroupExtent& extent) noexcept { return ceil_div(extent.rows, extent.row_limit); }
  static Index cost(const GroupExtent& extent) noexcept {
    return chunks(extent) * extent.units * extent.unit_cost;
  }

  Index* first_task_;
  Index groups_;
  ExtentOf extent_of_;
};

MOE_NAMESPACE_END
