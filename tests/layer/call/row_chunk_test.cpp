#include "moe/layer/call/row_chunk.hpp"

#include <cstdint>
#include <vector>

#include "support/catch.hpp"

using moe::Index;

TEST_CASE("rows of a call keep what is told about them, and their keys", "[layer]") {
  const std::vector<double> x{0, 1, 2, 3, 4, 5, 6, 7}, mask(4), two{0, 0, 0, 0, 1, 1, 2, 2};
  const std::vector<std::int32_t> task{5, 6, 7, 8};
  const std::vector<double> outside{1, 2, 3};
  moe::RouterInput<double> in;
  in.x = {x.data(), 4, 2};
  in.task = task;
  in.outside_counts = outside;
  in.logit_mask = {mask.data(), 1, 4};
  in.features = {two.data(), 4, 2};
  in.options.temperature = 3;
  in.training = true;
  std::uint64_t keys[2];
  const moe::RouterInput<double> some = moe::impl::rows_of_call(in, 2, 2, keys);
  CHECK((some.tokens() == 2 && some.x(0, 0) == 4 && some.x(1, 1) == 7));
  CHECK((some.task.size() == 2 && some.task[0] == 7));
  CHECK((some.outside_counts.size() == 3 && some.logit_mask.rows == 1));
  CHECK((some.features.rows == 2 && some.features(1, 0) == 2));
  CHECK((some.options.temperature == 3 && some.training && !some.draws));
  CHECK((some.key(0) == 2 && some.key(1) == 3));
  CHECK(some.valid.empty());
  CHECK(some.segments.count(2) == 1);

  const std::vector<std::uint64_t> own{9, 8, 7, 6};
  in.row_key = own;
  in.logit_mask = {two.data(), 4, 2};
  const moe::RouterInput<double> keyed = moe::impl::rows_of_call(in, 1, 3, nullptr);
  CHECK((keyed.key(0) == 8 && keyed.key(2) == 6));
  CHECK((keyed.logit_mask.rows == 3 && keyed.logit_mask(2, 0) == 2));
}
