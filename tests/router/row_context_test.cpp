#include "moe/router/row_context.hpp"

#include "support/catch.hpp"

TEST_CASE("a row sees its own entries of what the call gives", "[router]") {
  const std::int32_t task[] = {4, 5, 6};
  const moe::TokenId ids[] = {7, 8, 9};
  const std::uint64_t key[] = {100, 200, 300};
  const double features[] = {1, 2, 3, 4, 5, 6};
  moe::RouterInput<double> call;
  call.task = task;
  call.token_id = ids;
  call.row_key = key;
  call.features = moe::ConstMatrixView<double>(features, 3, 2);
  call.options.experts_per_token = 3;
  call.training = true;
  call.draws = moe::DrawKey{11, 2};
  const moe::RowContext<double> row{call, 1, 4};
  CHECK(row.k() == 3);
  CHECK(row.training());
  CHECK(row.token_id() == 8);
  CHECK(row.entry(call.task) == 5);
  CHECK(row.entry(call.language) == 0);
  CHECK(row.entry(call.language, -1) == -1);
  CHECK(row.entries(call.features)[1] == 4);
  CHECK(row.entries(call.carry) == nullptr);
  const double mask[] = {7, 8};
  call.logit_mask = moe::ConstMatrixView<double>(mask, 1, 2);  // one row for all
  CHECK(row.entries(call.logit_mask)[1] == 8);
  const moe::KeyedRandom draw(11, 2, moe::DrawStream::user);
  CHECK(row.uniform(moe::DrawStream::user, 3) == draw.uniform(200, 3));
  CHECK(row.normal(moe::DrawStream::user) == draw.normal(200, 0));
}
