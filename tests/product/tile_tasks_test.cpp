#include "moe/product/tile_tasks.hpp"

#include <algorithm>
#include <vector>

#include "support/catch.hpp"
#include "support/products.hpp"

namespace {

using moe::GroupExtent;
using moe::Index;
using moe::TaskList;
using moe::TileTask;

struct Cut {
  Index tasks = 0;
  Index dearest = 0;           // cost of the dearest task
  Index last = 0;              // cost of the last task
  bool covers_exactly = true;  // every (row, unit) of every group by one task
  bool within_limit = true;    // no row chunk above row_limit
};

Cut cut(const std::vector<GroupExtent>& groups, Index workers, Index least_cost) {
  const auto extent_of = [&](Index g) noexcept { return groups[static_cast<std::size_t>(g)]; };
  std::vector<Index> first_task(
      static_cast<std::size_t>(moe::task_list_size(static_cast<Index>(groups.size()))));
  const TaskList list(first_task.data(), static_cast<Index>(groups.size()), workers, least_cost, extent_of);
  std::vector<std::vector<int>> seen;
  for (const GroupExtent& e : groups) seen.emplace_back(static_cast<std::size_t>(e.rows * e.units), 0);
  Cut result;
  result.tasks = list.size();
  for (Index i = 0; i < list.size(); ++i) {
    const TileTask task = list[i];
    const GroupExtent& extent = groups[static_cast<std::size_t>(task.group)];
    result.within_limit = result.within_limit && task.row_end - task.row <= extent.row_limit;
    result.last = (task.unit_end - task.unit) * extent.unit_cost;
    result.dearest = std::max(result.dearest, result.last);
    for (Index r = task.row; r < task.row_end; ++r) {
      for (Index u = task.unit; u < task.unit_end; ++u) {
        ++seen[static_cast<std::size_t>(task.group)][static_cast<std::size_t>(r * extent.units + u)];
      }
    }
  }
  for (const auto& group : seen) {
    for (const int times : group) result.covers_exactly = result.covers_exactly && times == 1;
  }
  return result;
}

}  // namespace

TEST_CASE("tile tasks cover every group exactly once", "[expert][smoke]") {
  test::Draw draw(5);
  for (int round = 0; round < 50; ++round) {
    std::vector<GroupExtent> groups;
    const Index count = draw.below(8);
    for (Index g = 0; g < count; ++g) {
      const Index rows = draw.below(3) == 0 ? 0 : draw.below(300);
      groups.push_back({rows, 1 + draw.below(100), draw.below(40), 1 + draw.below(1000)});
    }
    for (const Index workers : {1, 2, 3, 64}) {
      for (const Index least : {Index{1}, Index{5000}}) {
        const Cut result = cut(groups, workers, least);
        INFO("round " << round << ", workers " << workers << ", least " << least);
        CHECK(result.covers_exactly);
        CHECK(result.within_limit);
      }
    }
  }
}

TEST_CASE("no rows, no units or no groups make no task", "[expert]") {
  CHECK(cut({}, 4, 1).tasks == 0);
  CHECK(cut({{0, 8, 10, 100}, {5, 8, 0, 100}}, 4, 1).tasks == 0);
}

TEST_CASE("one worker gets whole row chunks; many get enough tasks, even of a single group", "[expert]") {
  const std::vector<GroupExtent> skewed = {{1, 64, 1000, 10}, {0, 64, 1000, 10}, {128, 64, 1000, 10000}};
  CHECK(cut(skewed, 1, 1).tasks == 3);
  for (const Index workers : {2, 8, 64}) {
    const Cut result = cut(skewed, workers, 1);
    INFO("workers " << workers);
    CHECK(result.tasks >= 8 * workers);
    // 1000 units x 2 row chunks x 10000, a worker's share of it, and no task above a fraction of that.
    CHECK(result.dearest <= 20'010'000 / workers / 4);
  }
}

TEST_CASE("tasks get smaller towards the end, so that workers end together", "[expert]") {
  const std::vector<GroupExtent> equal(64, {8, 64, 32, 1000});
  const Cut result = cut(equal, 4, 1);
  CHECK(result.dearest == 32 * 1000);  // whole groups at first
  CHECK(result.last <= 2 * 1000);
}

TEST_CASE("little work is not cut into tasks that cost more to claim than to do", "[expert]") {
  CHECK(cut({{1, 64, 4, 10}}, 64, 1000).tasks == 1);
  CHECK(cut({{1, 64, 40, 100}}, 64, 1000).tasks == 4);
}
