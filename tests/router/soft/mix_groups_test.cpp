#include "moe/router/soft/mix_groups.hpp"

#include <string>
#include <vector>

#include "support/catch.hpp"

namespace {

using moe::Index;

/// "0 1|2|": rows by group.
template <class Groups>
std::string groups_of(const Groups& groups, const std::vector<Index>& ends, std::vector<Index> idle = {}) {
  const Index tokens = ends.back();
  const std::vector<float> x(static_cast<std::size_t>(tokens));
  moe::RouterInput<float> in;
  in.x = moe::ConstMatrixView<float>(x.data(), tokens, 1);
  in.segments = moe::Segments({ends.data(), ends.size()});
  bool active[16];
  for (bool& a : active) a = true;
  for (const Index t : idle) active[t] = false;
  std::string text;
  groups.group(
      in, active,
      [&](Index t) { text += (text.empty() || text.back() == '|' ? "" : " ") + std::to_string(t); },
      [&] { text += "|"; });
  return text;
}

}  // namespace

TEST_CASE("rows of a segment, or of one position of several, mix", "[router][smoke]") {
  CHECK(groups_of(moe::SegmentGroups{}, {0, 2, 2, 5}, {3}) == "0 1||2 4|");
  CHECK(groups_of(moe::PositionGroups(2), {0, 2, 5, 6}, {1}) == "0 2|3|4|5|");
  CHECK(groups_of(moe::PositionGroups(3), {0, 2, 5, 6}) == "0 2 5|1 3|4|");
  CHECK(moe::SegmentGroups::coupling(false) == moe::Coupling::per_segment);
  CHECK(moe::PositionGroups::coupling(true) == moe::Coupling::per_batch);
}
