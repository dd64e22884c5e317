#include "moe/layer/call/stored_input.hpp"

#include <algorithm>
#include <vector>

#include "support/catch.hpp"
#include "support/columns.hpp"

namespace {

using moe::Index;
constexpr Index kTokens = 7;

/// The bytes behind a column, for comparing.
template <class T>
std::vector<double> numbers(const moe::Column<T>& column) {
  return {column.begin(), column.end()};
}
template <class T>
std::vector<double> numbers(const moe::ConstMatrixView<T>& column) {
  std::vector<double> all;
  for (Index t = 0; t < column.rows; ++t) {
    for (Index j = 0; j < column.cols; ++j) all.push_back(static_cast<double>(column(t, j)));
  }
  return all;
}

}  // namespace

TEST_CASE("a stored input has every column's numbers in memory of its own", "[layer]") {
  auto columns = test::Columns<float>::random(kTokens, 3);
  std::vector<float> x(kTokens * 4, 1.5f), mask(kTokens * 5, -1);
  std::vector<std::int32_t> ids(kTokens, 9), replay(kTokens * 2, 1);
  std::vector<std::uint64_t> keys(kTokens, 11);
  std::vector<double> counts(5, 2);
  const bool valid[kTokens] = {true, false, true, true, true, true, true};
  const std::vector<Index> offsets{0, 3, 3, kTokens};
  moe::RouterInput<float> in;
  columns.show(in, kTokens);
  in.x = {x.data(), kTokens, 2, 4};  // rows with gaps
  in.valid = valid;
  in.row_key = keys;
  in.token_id = ids;
  in.outside_counts = counts;
  in.logit_mask = {mask.data(), kTokens, 5};
  in.target = {mask.data(), kTokens, 5};
  in.replay = {replay.data(), kTokens, 2};
  in.segments = moe::Segments(std::span<const Index>(offsets));
  in.options.temperature = 2;
  in.draws = moe::DrawKey{5, 6};

  moe::impl::StoredInput<float> stored;
  for (int again = 0; again < 2; ++again) {  // its memory is used again
    stored.store(in, in.x);
    const moe::RouterInput<float>& kept = stored.router_input();
    CHECK(!stored.separate_router());
    CHECK(numbers(kept.x) == numbers(in.x));
    CHECK((kept.options.temperature == 2 && kept.draws->call == 6));
    CHECK(kept.segments.count(kTokens) == 3);
    CHECK(kept.segments.begin(2) == 3);
    int given = 0;
    moe::InputColumns<float>::each([&](const char* name, auto member, moe::ColumnSize) {
      INFO(name);
      const auto before = numbers(in.*member);
      given += before.empty() ? 0 : 1;
      CHECK(numbers(kept.*member) == before);
      if constexpr (requires { (in.*member).row(0); }) {
        CHECK((kept.*member).data != (in.*member).data);
      } else {
        CHECK((kept.*member).data() != (in.*member).data());
      }
    });
    CHECK(given == 16);
  }
}

TEST_CASE("rows for the router are x's own only as the same view", "[layer]") {
  const std::vector<float> x(24);
  const moe::ConstMatrixView<float> rows(x.data(), 3, 4);
  const auto separate = [&](const moe::ConstMatrixView<float>& router_x) {
    moe::RouterInput<float> in;
    in.x = router_x;
    moe::impl::StoredInput<float> stored;
    stored.store(in, rows);
    return stored.separate_router();
  };
  CHECK_FALSE(separate(rows));
  CHECK(separate({x.data(), 3, 4, 8}));  // every second row
  CHECK(separate({x.data(), 3, 2, 4}));  // the first columns
  CHECK(separate({x.data() + 4, 3, 4}));
}

TEST_CASE("columns that a call does not give stay away", "[layer]") {
  const std::vector<float> x(12);
  moe::RouterInput<float> in;
  in.x = {x.data(), 3, 4};
  moe::impl::StoredInput<float> stored;
  stored.store(in, in.x);
  moe::InputColumns<float>::each([&](const char*, auto member, moe::ColumnSize) {
    CHECK(numbers(stored.router_input().*member).empty());
  });
}
