#include "moe/router/selection/column_top_k.hpp"

#include <limits>
#include <vector>

#include "moe/core/workspace.hpp"
#include "support/catch.hpp"

namespace {

using moe::ColumnTopK;
using moe::ExpertId;
using moe::Index;
constexpr double kMasked = -std::numeric_limits<double>::infinity();

/// The ids of every row, for choice scores [T][2].
std::vector<std::vector<ExpertId>> select(const ColumnTopK& selection, std::vector<double> choice,
                                          std::vector<Index> segments = {}, moe::CallOptions options = {}) {
  const auto tokens = static_cast<Index>(choice.size()) / 2;
  moe::RouterInput<double> call;
  call.options = options;
  if (!segments.empty()) call.segments = moe::Segments(std::span<const Index>(segments));
  moe::Buffer<bool> active;
  active.assign(tokens, true);
  const moe::ConstMatrixView<double> score(choice.data(), tokens, 2);
  moe::Arena measuring;
  selection.measure(measuring, tokens, 2);
  moe::Workspace workspace;
  moe::Arena arena = workspace.arena(measuring.bytes());
  std::vector<ExpertId> chosen(choice.size());
  std::vector<Index> count(static_cast<std::size_t>(tokens));
  moe::SerialExecutor serial;
  selection.select_set(moe::SetCall<double>{call, moe::MatrixView<double>(choice.data(), tokens, 2), score,
                                            score, active.data()},
                       chosen.data(), count.data(), arena, serial);
  std::vector<std::vector<ExpertId>> rows;
  Index all = 0;
  for (std::size_t t = 0; t < count.size(); ++t) {
    rows.emplace_back(chosen.begin() + static_cast<Index>(2 * t),
                      chosen.begin() + static_cast<Index>(2 * t) + count[t]);
    all += count[t];
  }
  CHECK(all <= selection.max_pairs({tokens, call.segments.count(tokens), options}, 2));
  return rows;
}

using Rows = std::vector<std::vector<ExpertId>>;

}  // namespace

TEST_CASE("every output takes its best rows, ties to the lower row", "[selection]") {
  STATIC_REQUIRE(moe::SetSelection<ColumnTopK>);
  STATIC_REQUIRE(!moe::Selection<ColumnTopK>);
  const ColumnTopK one({.capacity_factor = 1});
  CHECK(select(one, {0.9, 0.1, 0.8, 0.5, 0.1, 0.5, 0.2, 0.4}) == Rows{{0}, {0, 1}, {1}, {}});
  CHECK(select(one, {0.5, 0.5, 0.5, 0.5}) == Rows{{0, 1}, {}});
  // Each segment by itself, at least one row of it.
  CHECK(select(one, {0.9, 0.1, 0.8, 0.5, 0.1, 0.5, 0.2, 0.4}, {0, 3, 4}) == Rows{{0}, {1}, {}, {0, 1}});
  // So many rows of each segment.
  CHECK(select(ColumnTopK({.rows = 2}), {0.9, 0.1, 0.8, 0.5, 0.1, 0.5, 0.2, 0.4}, {0, 3, 4}) ==
        Rows{{0}, {0, 1}, {1}, {0, 1}});
  // The factor of the call.
  CHECK(select(one, {0.9, 0.1, 0.8, 0.5}, {}, {.capacity_factor = 2}) == Rows{{0, 1}, {0, 1}});
}

TEST_CASE("masked scores are never taken, and scores of 0 only where that is wanted", "[selection]") {
  CHECK(select(ColumnTopK({.capacity_factor = 2}), {kMasked, 0.0, 0.5, 0.0}) == Rows{{}, {0}});
  CHECK(select(ColumnTopK({.capacity_factor = 2, .positive = false}), {kMasked, 0.0, -0.5, -1.0}) ==
        Rows{{1}, {0, 1}});
}

TEST_CASE("column top-k refuses options that it cannot obey", "[selection]") {
  CHECK_THROWS_AS(ColumnTopK({.capacity_factor = 0}).check(4), moe::config_error);
  CHECK_THROWS_AS(ColumnTopK({.capacity_factor = 5}).check(4), moe::config_error);
  moe::RouterInput<double> call;
  call.options.experts_per_token = 2;
  CHECK_THROWS_AS(ColumnTopK({}).check_call(call), moe::config_error);
  call.options = {.threshold = 0.5};
  CHECK_THROWS_AS(ColumnTopK({}).check_call(call), moe::config_error);
}
