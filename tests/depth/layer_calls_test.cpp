#include "moe/depth/layer_calls.hpp"

#include <limits>
#include <vector>

#include "support/catch.hpp"

using moe::Index;

TEST_CASE("a layer's call borrows the columns of the call around it", "[depth]") {
  moe::LayerInput<double> in;
  in.token_id = std::vector<long>{4, 5};  // converted, into memory of its own
  in.segments = moe::Segments(std::vector<int>{0, 2});
  in.options.temperature = 2;
  const double x[] = {1, 2};
  const moe::LayerInput<double> own = moe::impl::borrow_input(in, moe::ConstMatrixView<double>(x, 2, 1));
  CHECK(own.token_id.data() == in.token_id.data());
  CHECK(own.segments.count(2) == 1);
  CHECK(own.options == in.options);
  CHECK(own.x.data == x);
}

TEST_CASE("a spoiled row is NaN throughout", "[depth]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double row[] = {nan, nan, 1};
  CHECK(moe::impl::is_spoiled(row, 2));
  CHECK_FALSE(moe::impl::is_spoiled(row, 3));
  CHECK_FALSE(moe::impl::is_spoiled(row, 0));
}
