#include "moe/kernel/gather.hpp"

#include <vector>

#include "kernel/guarded_row.hpp"
#include "support/catch.hpp"
#include "support/close.hpp"

namespace {

using moe::Index;
using test::GuardedRow;

template <class T, class Arch>
void check_gather() {
  constexpr Index kTokens = 6;
  const std::int32_t token[] = {5, 0, 3, 3, 2, 5, 5};
  constexpr Index kCount = 7;
  test::Numbers numbers(11);
  for (const Index n : test::kSizes) {
    const Index x_stride = n + 3, out_stride = n + 1;
    const GuardedRow<T> x(kTokens * x_stride, 1, numbers);
    GuardedRow<T> out(kCount * out_stride, 2);
    for (Index j = 0; j < out.size(); ++j) out[j] = T(-5);
    moe::gather_rows<Arch>(x.data(), x_stride, token, kCount, out.data(), out_stride, n);
    for (Index i = 0; i < kCount; ++i) {
      CHECK(test::first_bit_difference(out.data() + i * out_stride, x.data() + token[i] * x_stride, n) == -1);
      CHECK(out[i * out_stride + n] == -5);  // the gap between rows is not touched
    }
    CHECK(out.guards_intact());

    std::vector<const T*> row;
    for (const std::int32_t t : token) row.push_back(x.data() + t * x_stride);
    GuardedRow<T> same(kCount * out_stride, 3);
    for (Index j = 0; j < same.size(); ++j) same[j] = T(-5);
    moe::gather_rows<Arch>(row.data(), kCount, same.data(), out_stride, n);
    CHECK(test::first_bit_difference(same.data(), out.data(), out.size()) == -1);
    CHECK(same.guards_intact());
    for (Index j = 0; j < same.size(); ++j) same[j] = T(-5);
    moe::copy_rows<Arch>(out.data(), out_stride, kCount, same.data(), out_stride, n);
    CHECK(test::first_bit_difference(same.data(), out.data(), out.size()) == -1);
    CHECK(same.guards_intact());
  }
}

TEST_CASE("gather copies rows by id or by pointer, copy_rows as they lie", "[kernel][smoke]") {
  check_gather<float, moe::native_arch>();
  check_gather<double, moe::native_arch>();
  check_gather<float, moe::reference_arch>();
  check_gather<double, moe::reference_arch>();
}

TEST_CASE("gathering no rows writes nothing", "[kernel]") {
  const float x[2] = {1, 2};
  float out[2] = {3, 4};
  moe::gather_rows(x, 2, nullptr, 0, out, 2, 2);
  moe::gather_rows<moe::native_arch, float>(nullptr, 0, out, 2, 2);
  CHECK((out[0] == 3 && out[1] == 4));
}

}  // namespace
