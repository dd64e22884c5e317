#include "moe/kernel/arch.hpp"

#include <cstring>
#include <limits>
#include <string>

#include "kernel/guarded_row.hpp"
#include "support/catch.hpp"
#include "support/close.hpp"

namespace {

using moe::Index;
using moe::native_arch;
using moe::reference_arch;

TEST_CASE("architectures are told apart", "[kernel][smoke]") {
  CHECK_FALSE(moe::SimdArch<reference_arch>);
  CHECK_FALSE(moe::SimdArch<int>);
  CHECK(std::is_same_v<moe::KernelArch<float, reference_arch>, reference_arch>);
  CHECK(std::string(moe::arch_name<reference_arch>()) == "reference");
  CHECK(std::string(moe::arch_name()) == moe::arch_name<native_arch>());
#if defined(__SSE2__) || defined(__aarch64__)
  CHECK(moe::SimdArch<native_arch, float>);
  CHECK(moe::SimdArch<native_arch, double>);
  CHECK(std::is_same_v<moe::KernelArch<double, native_arch>, native_arch>);
#endif
}

template <class T>
void check_scalar_fma() {
  // x^2 = 1 + 2 e + e^2: one rounding keeps e^2, two lose it.
  const volatile T e = std::numeric_limits<T>::epsilon();
  const T x = 1 + e;
  const T fused = moe::fma(x, x, T(-1 - 2 * e));
  CHECK(fused == (moe::kHasFma ? T(e * e) : T(0)));
}

TEST_CASE("scalar fma rounds once exactly where the target has the instruction", "[kernel][smoke]") {
  check_scalar_fma<float>();
  check_scalar_fma<double>();
}

template <class T, class Arch>
void check_batch() {
  if constexpr (moe::SimdArch<Arch, T>) {
    using B = moe::Batch<T, Arch>;
    constexpr Index kWidth = static_cast<Index>(B::size);
    test::Numbers numbers(3);
    const test::GuardedRow<T> a(kWidth, 1, numbers), b(kWidth, 2, numbers), c(kWidth, 3, numbers);
    test::GuardedRow<T> got(kWidth, 1), want(kWidth, 0);
    const B va = B::load_unaligned(a.data()), vb = B::load_unaligned(b.data()),
            vc = B::load_unaligned(c.data());

    moe::fma(va, vb, vc).store_unaligned(got.data());
    for (Index j = 0; j < kWidth; ++j) want[j] = moe::fma(a[j], b[j], c[j]);
    CHECK(test::first_bit_difference(got.data(), want.data(), kWidth) == -1);

    moe::opaque(va).store_unaligned(got.data());
    CHECK(test::first_bit_difference(got.data(), a.data(), kWidth) == -1);

    // The order that is documented: halves folded onto each other.
    for (Index j = 0; j < kWidth; ++j) want[j] = a[j];
    for (Index half = kWidth / 2; half > 0; half /= 2) {
      for (Index j = 0; j < half; ++j) want[j] += want[j + half];
    }
    const T sum = moe::reduce_add(va);
    CHECK(test::first_bit_difference(&sum, want.data(), 1) == -1);

    for (Index top = 0; top < kWidth; ++top) {
      test::GuardedRow<T> row(a, 0);
      row[top] = 5;
      CHECK(moe::reduce_max(B::load_unaligned(row.data())) == 5);
      row[top] = -std::numeric_limits<T>::infinity();
      CHECK(moe::reduce_max(B::load_unaligned(row.data())) < 5);
    }
    CHECK(moe::reduce_max(B(T(-7))) == -7);

    constexpr int kExponent = sizeof(T) == 4 ? 23 : 52;
    T subnormal = 0;  // the integer 3 in the low bits becomes the exponent 3
    const unsigned char three = 3;
    std::memcpy(&subnormal, &three, 1);
    moe::shift_bits_left<kExponent>(B(subnormal)).store_unaligned(got.data());
    for (Index j = 0; j < kWidth; ++j) CHECK(got[j] == 4 * std::numeric_limits<T>::min());

    for (Index count = 0; count <= kWidth; ++count) {
      test::GuardedRow<T> part(count, 1, numbers), all(kWidth, 0), stored(count, 3);
      moe::load_partial<B>(part.data(), count, T(9)).store_unaligned(all.data());
      for (Index j = 0; j < kWidth; ++j) CHECK(all[j] == (j < count ? part[j] : T(9)));
      moe::store_partial(B::load_unaligned(all.data()), stored.data(), count);
      CHECK(test::first_bit_difference(stored.data(), part.data(), count) == -1);
      CHECK(stored.guards_intact());
    }
  }
}

TEST_CASE("batch helpers", "[kernel][smoke]") {
  check_batch<float, native_arch>();
  check_batch<double, native_arch>();
}

}  // namespace
