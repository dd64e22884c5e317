#include "moe/kernel/prefetch.hpp"

#include "moe/kernel/arch.hpp"
#include "support/catch.hpp"

TEST_CASE("prefetching any address does nothing that can be seen", "[kernel]") {
  alignas(64) int line[16] = {1, 2, 3};
  moe::prefetch_l2(line);
  moe::prefetch_write(line);
  moe::prefetch_l2(nullptr);
  moe::prefetch_write(nullptr);
  CHECK(line[0] + line[1] + line[2] == 6);
}

TEMPLATE_TEST_CASE("holding a batch in a register keeps its value", "[kernel]", float, double) {
  if constexpr (moe::SimdArch<moe::native_arch, TestType>) {
    using B = moe::Batch<TestType, moe::native_arch>;
    TestType in[B::size], out[B::size];
    for (std::size_t i = 0; i < B::size; ++i) in[i] = static_cast<TestType>(i) + 1;
    B x = B::load_unaligned(in);
    moe::hold_in_register(x);
    x.store_unaligned(out);
    for (std::size_t i = 0; i < B::size; ++i) CHECK(out[i] == in[i]);
  }
}
