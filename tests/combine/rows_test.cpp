#include "moe/combine/rows.hpp"

#include <Eigen/Core>
#include <random>
#include <unsupported/Eigen/CXX11/Tensor>
#include <vector>

#include "moe/executor/pool.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "support/catch.hpp"
#include "support/route_tables.hpp"

namespace {

using moe::Index;
using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr Index kTokens = 24, kExperts = 70, kWidth = 7;

struct Case {
  explicit Case(Index most)
      : random(11),
        table(test::random_choices<double>(random, kTokens, kExperts, most), kExperts),
        owned(table.table, moe::Dropless{}) {}
  const moe::DispatchPlan<double>& plan() const { return owned.plan; }

  std::mt19937 random;
  test::OwnedTable<double> table;
  test::OwnedPlan<double> owned;
};

TEST_CASE("rows by expert combine with the bits of stage 5", "[combine][smoke]") {
  for (const Index most : {3, 70}) {  // more slots of a token than are added at once
    const Case c(most);
    const Rows rows = Rows::Random(c.plan().slots(), kWidth);
    std::vector<const double*> pointers;
    for (Index s = 0; s < c.plan().slots(); ++s) pointers.push_back(rows.data() + s * kWidth);
    Rows want(kTokens, kWidth), y = Rows::Constant(kTokens, kWidth, 9), cube_y = y;
    moe::SerialExecutor serial;
    moe::PoolExecutor pool(3);
    moe::combine_row_pointers(c.plan(), pointers.data(), c.plan().weight, moe::MatrixView<double>(want),
                              serial);
    moe::combine_rows(c.plan(), rows, y, pool);
    CHECK(y == want);
    Eigen::TensorMap<Eigen::Tensor<double, 3, Eigen::RowMajor>> cube(cube_y.data(), 3, 8, kWidth);
    moe::combine_rows(c.plan(), rows, cube, serial);
    CHECK(cube_y == want);
    // fma by fma, experts ascending.
    for (Index t = 0; t < kTokens; ++t) {
      for (Index j = 0; j < kWidth; ++j) {
        double sum = 0, magnitude = 0;
        for (Index s = 0; s < c.plan().slots(); ++s) {
          if (c.plan().token[s] != t) continue;
          sum += c.plan().weight[s] * rows(s, j);
          magnitude += std::abs(c.plan().weight[s] * rows(s, j));
        }
        CHECK(std::abs(y(t, j) - sum) <= 4 * 70 * 0x1p-53 * magnitude);
      }
    }
  }
}

TEST_CASE("a sum onto y goes on from y and leaves tokens without slots", "[combine][smoke]") {
  const Case c(70);
  const Rows rows = Rows::Random(c.plan().slots(), kWidth);
  std::vector<const double*> pointers;
  for (Index s = 0; s < c.plan().slots(); ++s) {
    pointers.push_back(s % 5 == 0 ? nullptr : rows.data() + s * kWidth);
  }
  moe::SerialExecutor serial;
  // One expert after the other onto y: the bits of all at once, whatever the token's number of slots.
  Rows y = Rows::Random(kTokens, kWidth), want = y;
  moe::combine_row_pointers(c.plan(), pointers.data(), c.plan().weight, moe::MatrixView<double>(y), serial,
                            moe::SumFrom::y);
  Index empty = 0;
  for (Index t = 0; t < kTokens; ++t) {
    empty += c.plan().token_offsets[t] == c.plan().token_offsets[t + 1];
    for (Index i = c.plan().token_offsets[t]; i < c.plan().token_offsets[t + 1]; ++i) {
      const Index s = c.plan().token_slot[i];
      if (pointers[static_cast<std::size_t>(s)] == nullptr) continue;
      moe::axpy_row(c.plan().weight[s], rows.data() + s * kWidth, want.data() + t * kWidth, kWidth);
    }
  }
  CHECK(y == want);
  CHECK(empty < kTokens);
}

TEST_CASE("the backward of combine hands out dY and weights", "[combine][smoke]") {
  const Case c(4);
  const Index slots = c.plan().slots();
  const Rows rows = Rows::Random(slots, kWidth), dy = Rows::Random(kTokens, kWidth);
  Rows drows(slots, kWidth), dweight(slots, 1), again(slots, kWidth);
  moe::SerialExecutor serial;
  moe::PoolExecutor pool(2);
  moe::combine_rows_backward(c.plan(), dy, rows, drows, dweight, serial);
  moe::combine_rows_backward(c.plan(), dy, rows, again, moe::MatrixView<double>{}, pool);
  CHECK(again == drows);
  for (Index s = 0; s < slots; ++s) {
    const Index t = c.plan().token[s];
    CHECK(drows.row(s) == c.plan().weight[s] * dy.row(t));
    // A dot product of 7 numbers below 1.
    CHECK(std::abs(dweight(s, 0) - dy.row(t).dot(rows.row(s))) <= 2 * 8 * 7 * 0x1p-53);
  }
}

TEST_CASE("combine refuses rows of another shape", "[combine][smoke]") {
  const test::OwnedTable<double> table({{{0, 1.0}, {1, 1.0}}, {{1, 1.0}}}, 2);
  const test::OwnedPlan<double> owned(table.table, moe::Dropless{});
  moe::SerialExecutor serial;
  Rows y = Rows::Constant(2, 4, 5), rows = Rows::Random(3, 4), drows(3, 4), few(2, 4), bad(2, 1);
  CHECK_THROWS_AS(moe::combine_rows(owned.plan, few, y, serial), moe::shape_error);
  CHECK_THROWS_AS(moe::combine_rows(owned.plan, rows, rows, serial), moe::shape_error);
  CHECK_THROWS_AS(moe::combine_rows(owned.plan, rows, rows.topRows(2), serial), moe::shape_error);
  CHECK_THROWS_AS(moe::combine_rows_backward(owned.plan, y, few, drows, moe::MatrixView<double>{}, serial),
                  moe::shape_error);
  CHECK_THROWS_AS(moe::combine_rows_backward(owned.plan, y, rows, rows, moe::MatrixView<double>{}, serial),
                  moe::shape_error);
  CHECK_THROWS_AS(moe::combine_rows_backward(owned.plan, y, rows, drows, bad, serial), moe::shape_error);
  const moe::MatrixView<double> within_rows(rows.data(), 3, 1);
  CHECK_THROWS_AS(moe::combine_rows_backward(owned.plan, y, rows, drows, within_rows, serial),
                  moe::shape_error);
  CHECK((y.array() == 5).all());
}

}  // namespace
