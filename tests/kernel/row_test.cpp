#include "moe/kernel/row.hpp"

#include <cmath>
#include <limits>

#include "kernel/guarded_row.hpp"
#include "support/catch.hpp"
#include "support/close.hpp"

namespace {

using moe::Index;
using moe::native_arch;
using moe::reference_arch;
using test::GuardedRow;

/// Runs f(n, shift of x, shift of y) over every size and alignment.
template <class F>
void for_each_layout(const F& f) {
  for (const Index n : test::kSizes) {
    for (Index shift = 0; shift < 4; ++shift) f(n, shift, (2 * shift + 1) % 5);
  }
}

/// An elementwise operation f<Arch>(x, z, y, n) has one possible result a position: the reference's, bit for
/// bit, as a row, at any alignment, and as n rows of one element (all tail).
template <class T, class Op>
void check_elementwise(const Op& op) {
  test::Numbers numbers(1);
  for_each_layout([&](Index n, Index shift, Index other) {
    const GuardedRow<T> x(n, shift, numbers), z(n, other, numbers), start(n, 0, numbers);
    GuardedRow<T> want(start, 0), got(start, other), single(start, shift);
    op(reference_arch{}, x.data(), z.data(), want.data(), n);
    op(native_arch{}, x.data(), z.data(), got.data(), n);
    for (Index j = 0; j < n; ++j) op(native_arch{}, x.data() + j, z.data() + j, single.data() + j, Index{1});
    CHECK(test::first_bit_difference(got.data(), want.data(), n) == -1);
    CHECK(test::first_bit_difference(single.data(), want.data(), n) == -1);
    CHECK(got.guards_intact());
    CHECK(single.guards_intact());
  });
}

template <class T>
void check_all_elementwise() {
  const T a = T(-0.7);
  check_elementwise<T>(
      [](auto arch, const T* x, const T*, T* y, Index n) { moe::copy_row<decltype(arch)>(x, y, n); });
  check_elementwise<T>(
      [a](auto arch, const T*, const T*, T* y, Index n) { moe::fill_row<decltype(arch)>(a, y, n); });
  check_elementwise<T>(
      [a](auto arch, const T* x, const T*, T* y, Index n) { moe::scale_row<decltype(arch)>(a, x, y, n); });
  check_elementwise<T>(
      [a](auto arch, const T* x, const T*, T* y, Index n) { moe::axpy_row<decltype(arch)>(a, x, y, n); });
  check_elementwise<T>(
      [](auto arch, const T* x, const T*, T* y, Index n) { moe::add_row<decltype(arch)>(x, y, n); });
  check_elementwise<T>(
      [](auto arch, const T* x, const T* z, T* y, Index n) { moe::fma_row<decltype(arch)>(x, z, y, n); });
}

TEST_CASE("elementwise rows agree with the reference bit for bit", "[kernel][smoke][arm]") {
  check_all_elementwise<float>();
  check_all_elementwise<double>();
}

template <class T>
void check_values() {
  const T x[3] = {1, -2, 4}, z[3] = {3, 5, -7};
  T y[3] = {10, 20, 30};
  moe::axpy_row(2, x, y, 3);
  CHECK((y[0] == 12 && y[1] == 16 && y[2] == 38));
  moe::fma_row(x, z, y, 3);
  CHECK((y[0] == 15 && y[1] == 6 && y[2] == 10));
  moe::add_row(x, y, 3);
  CHECK((y[0] == 16 && y[1] == 4 && y[2] == 14));
  moe::scale_row(-3, x, y, 3);
  CHECK((y[0] == -3 && y[1] == 6 && y[2] == -12));
  moe::copy_row(z, y, 3);
  CHECK((y[0] == 3 && y[1] == 5 && y[2] == -7));
  moe::fill_row(6, y, 2);
  CHECK((y[0] == 6 && y[1] == 6 && y[2] == -7));
  moe::scale_row(2, y, y, 3);  // in place
  CHECK((y[0] == 12 && y[1] == 12 && y[2] == -14));
  CHECK(moe::dot(x, z, 3) == 3 - 10 - 28);
  CHECK(moe::sum_row(x, 3) == 3);
  CHECK(moe::max_row(x, 3) == 4);
  CHECK(moe::squared_norm(x, 3) == 21);
}

TEST_CASE("rows against numbers worked out by hand", "[kernel]") {
  check_values<float>();
  check_values<double>();
}

template <class T, class Arch>
void check_sums() {
  test::Numbers numbers(2);
  for_each_layout([&](Index n, Index shift, Index other) {
    const GuardedRow<T> x(n, shift, numbers), z(n, other, numbers);
    long double dot = 0, dot_size = 0, sum = 0, sum_size = 0, square = 0;
    long double top = -std::numeric_limits<long double>::infinity();
    for (Index j = 0; j < n; ++j) {
      const long double p = static_cast<long double>(x[j]) * z[j];
      dot += p;
      dot_size += std::fabs(p);
      sum += x[j];
      sum_size += std::fabs(static_cast<long double>(x[j]));
      square += static_cast<long double>(x[j]) * x[j];
      top = std::fmax(top, static_cast<long double>(x[j]));
    }
    const T got_dot = moe::dot<Arch>(x.data(), z.data(), n);
    CHECK(test::within(got_dot, dot, test::gamma<T>(n + 1) * dot_size));
    CHECK(test::within(moe::sum_row<Arch>(x.data(), n), sum, test::gamma<T>(n) * sum_size));
    CHECK(test::within(moe::squared_norm<Arch>(x.data(), n), square, test::gamma<T>(n + 1) * square));
    CHECK(test::within(moe::max_row<Arch>(x.data(), n), top, 0));

    // The order depends on n alone: same bits at another alignment.
    const GuardedRow<T> moved_x(x, other), moved_z(z, shift + 1);
    const T moved_dot = moe::dot<Arch>(moved_x.data(), moved_z.data(), n);
    const T moved_sum = moe::sum_row<Arch>(moved_x.data(), n), got_sum = moe::sum_row<Arch>(x.data(), n);
    CHECK(test::first_bit_difference(&moved_dot, &got_dot, 1) == -1);
    CHECK(test::first_bit_difference(&moved_sum, &got_sum, 1) == -1);

    // The largest element wherever it stands.
    for (Index at = 0; at < n; at += 1 + n / 16) {
      GuardedRow<T> peak(x, shift);
      peak[at] = T(3);
      CHECK(moe::max_row<Arch>(peak.data(), n) == 3);
    }
  });
}

TEST_CASE("sums stay within the error bound, in an order that depends on n alone", "[kernel][smoke]") {
  check_sums<float, native_arch>();
  check_sums<double, native_arch>();
  check_sums<float, reference_arch>();
  check_sums<double, reference_arch>();
}

template <class T>
void check_special() {
  const T inf = std::numeric_limits<T>::infinity();
  for (const Index n : test::kSizes) {
    GuardedRow<T> masked(n);
    for (Index j = 0; j < n; ++j) masked[j] = -inf;
    CHECK(moe::max_row(masked.data(), n) == -inf);
    if (n == 0) continue;
    // A NaN anywhere reaches the sums; padding adds nothing to an infinite one.
    GuardedRow<T> x(n);
    for (Index j = 0; j < n; ++j) x[j] = 1;
    x[n - 1] = inf;
    CHECK(moe::sum_row(x.data(), n) == inf);
    CHECK(moe::dot(x.data(), x.data(), n) == inf);
    x[n / 2] = std::numeric_limits<T>::quiet_NaN();
    CHECK(std::isnan(moe::sum_row(x.data(), n)));
    CHECK(std::isnan(moe::dot(x.data(), x.data(), n)));
  }
}

TEST_CASE("infinities and NaN in rows", "[kernel]") {
  check_special<float>();
  check_special<double>();
}

}  // namespace
