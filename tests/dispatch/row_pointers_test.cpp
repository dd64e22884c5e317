#include "moe/dispatch/row_pointers.hpp"

#include <random>
#include <vector>

#include "moe/plan/capacity/dropless.hpp"
#include "support/catch.hpp"
#include "support/route_tables.hpp"

namespace {

using moe::Index;

TEST_CASE("every slot reads its token's row in place", "[dispatch]") {
  std::mt19937 random(29);
  for (const Index stride : {5, 8}) {
    const auto choices = test::random_choices<double>(random, 12, 4, 4);
    const test::OwnedTable<double> owner(choices, 4);
    const test::OwnedPlan<double> owned(owner.table, moe::Dropless{});
    const std::vector<double> x(static_cast<std::size_t>(12 * stride));
    std::vector<const double*> row(static_cast<std::size_t>(owned.plan.slots()), nullptr);
    moe::gather_row_pointers(owned.plan, moe::ConstMatrixView<double>(x.data(), 12, 5, stride), row.data());

    // By expert, then token: the order of slots.
    std::size_t slot = 0;
    bool right = true;
    for (moe::ExpertId e = 0; e < 4; ++e) {
      for (Index t = 0; t < 12; ++t) {
        for (const auto& choice : choices[static_cast<std::size_t>(t)]) {
          if (choice.first == e) right &= row[slot++] == x.data() + t * stride;
        }
      }
    }
    CHECK(slot == row.size());
    CHECK(right);
  }
}

TEST_CASE("no slots, no pointers", "[dispatch]") {
  const test::OwnedTable<float> owner({}, 2);
  const test::OwnedPlan<float> owned(owner.table, moe::Dropless{});
  const float* untouched = nullptr;
  moe::gather_row_pointers(owned.plan, moe::ConstMatrixView<float>(nullptr, 0, 3), &untouched);
  CHECK(untouched == nullptr);
}

TEST_CASE("weights on the input scale a copy of every slot's row", "[dispatch]") {
  std::mt19937 random(31);
  const auto choices = test::random_choices<float>(random, 9, 4, 3);
  const test::OwnedTable<float> owner(choices, 4);
  const test::OwnedPlan<float> owned(owner.table, moe::Dropless{});
  const Index slots = owned.plan.slots(), stride = moe::row_stride<float>(5);
  std::vector<float> x(9 * 5);
  std::normal_distribution<float> normal;
  for (float& v : x) v = normal(random);
  const moe::ConstMatrixView<float> rows(x.data(), 9, 5);
  std::vector<const float*> plain(static_cast<std::size_t>(slots)), row(plain.size());
  std::vector<float> scaled(static_cast<std::size_t>(slots * stride));
  moe::gather_row_pointers(owned.plan, rows, plain.data());
  moe::gather_row_pointers(owned.plan, rows, row.data());
  moe::SerialExecutor serial;
  moe::scale_gathered_rows(owned.plan, 5, row.data(), scaled.data(), serial);
  REQUIRE(slots > 0);
  for (Index s = 0; s < slots; ++s) {
    const auto i = static_cast<std::size_t>(s);
    CHECK(row[i] == scaled.data() + s * stride);
    for (int j = 0; j < 5; ++j) CHECK(row[i][j] == owned.plan.weight[s] * plain[i][j]);
  }
}

}  // namespace
