#include "moe/dispatch/rows.hpp"

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

constexpr Index kTokens = 24, kExperts = 5, kWidth = 7;

TEST_CASE("dispatched rows are the tokens' rows by expert", "[dispatch][smoke]") {
  std::mt19937 random(3);
  const test::OwnedTable<double> table(test::random_choices<double>(random, kTokens, kExperts, 4), kExperts);
  const test::OwnedPlan<double> owned(table.table, moe::Dropless{});
  const moe::DispatchPlan<double>& plan = owned.plan;
  const Rows x = Rows::Random(kTokens, kWidth);
  Rows rows(plan.slots(), kWidth), pooled = rows;
  moe::SerialExecutor serial;
  moe::PoolExecutor pool(3);
  moe::dispatch_rows(plan, x, rows, serial);
  moe::dispatch_rows(plan, x, pooled, pool);
  CHECK(rows == pooled);
  for (Index s = 0; s < plan.slots(); ++s) CHECK(rows.row(s) == x.row(plan.token[s]));

  // A tensor [batch, sequence, D], and rows with gaps.
  const Eigen::TensorMap<Eigen::Tensor<const double, 3, Eigen::RowMajor>> cube(x.data(), 4, 6, kWidth);
  Rows wide = Rows::Constant(plan.slots(), kWidth + 2, -1);
  moe::dispatch_rows(plan, cube, wide.leftCols(kWidth), serial);
  CHECK(Rows(wide.leftCols(kWidth)) == rows);
  CHECK((wide.rightCols(2).array() == -1).all());
}

TEST_CASE("the backward of dispatch adds a token's rows, experts ascending", "[dispatch][smoke]") {
  std::mt19937 random(5);
  const test::OwnedTable<double> table(test::random_choices<double>(random, kTokens, kExperts, 4), kExperts);
  const test::OwnedPlan<double> owned(table.table, moe::Dropless{});
  const moe::DispatchPlan<double>& plan = owned.plan;
  const Rows drows = Rows::Random(plan.slots(), kWidth);
  Rows dx = Rows::Constant(kTokens, kWidth, 9), pooled = dx, want = Rows::Zero(kTokens, kWidth);
  moe::SerialExecutor serial;
  moe::PoolExecutor pool(2);
  moe::dispatch_rows_backward(plan, drows, dx, serial);
  moe::dispatch_rows_backward(plan, drows, pooled, pool);
  for (Index s = 0; s < plan.slots(); ++s) want.row(plan.token[s]) += drows.row(s);
  CHECK(dx == want);
  CHECK(pooled == want);

  // The adjoint of dispatch: <dispatch(x), d> = <x, backward(d)>, up to the roundings of sums of |.| < 1.
  const Rows x = Rows::Random(kTokens, kWidth);
  Rows rows(plan.slots(), kWidth);
  moe::dispatch_rows(plan, x, rows, serial);
  const double terms = static_cast<double>(plan.slots() * kWidth);
  CHECK(std::abs(rows.cwiseProduct(drows).sum() - x.cwiseProduct(dx).sum()) <= 4 * terms * terms * 0x1p-53);
}

TEST_CASE("dispatch refuses rows of another shape", "[dispatch][smoke]") {
  const test::OwnedTable<double> table({{{0, 1.0}, {1, 1.0}}, {{1, 1.0}}}, 2);
  const test::OwnedPlan<double> owned(table.table, moe::Dropless{});
  moe::SerialExecutor serial;
  Rows x = Rows::Random(2, 4), rows(3, 4), few(2, 4), narrow(3, 3), untouched = Rows::Constant(3, 4, 5);
  CHECK_THROWS_AS(moe::dispatch_rows(owned.plan, rows, untouched, serial), moe::shape_error);
  CHECK_THROWS_AS(moe::dispatch_rows(owned.plan, x, few, serial), moe::shape_error);
  CHECK_THROWS_AS(moe::dispatch_rows(owned.plan, x, narrow, serial), moe::shape_error);
  CHECK_THROWS_AS(moe::dispatch_rows_backward(owned.plan, few, x, serial), moe::shape_error);
  CHECK_THROWS_AS(moe::dispatch_rows_backward(owned.plan, rows, rows, serial), moe::shape_error);
  CHECK((untouched.array() == 5).all());
  // A view of the rows themselves.
  CHECK_THROWS_AS(moe::dispatch_rows(owned.plan, rows.topRows(2), rows, serial), moe::shape_error);
}

}  // namespace
