#include "moe/kernel/panel.hpp"

#include "moe/kernel/arch.hpp"
#include "support/catch.hpp"

TEMPLATE_TEST_CASE("a half panel is one cache line and whole vectors of every instruction set", "[kernel]",
                   float, double) {
  CHECK(moe::kHalf<TestType> * sizeof(TestType) == 64);
  CHECK(moe::kPanel<TestType> == 2 * moe::kHalf<TestType>);
  if constexpr (moe::SimdArch<moe::native_arch, TestType>) {
    CHECK(moe::kHalf<TestType> % static_cast<moe::Index>(moe::Batch<TestType, moe::native_arch>::size) == 0);
  }
}
