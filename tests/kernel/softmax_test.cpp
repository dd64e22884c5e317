#include "moe/kernel/softmax.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "kernel/guarded_row.hpp"
#include "support/catch.hpp"
#include "support/close.hpp"

namespace {

using moe::Index;
using moe::native_arch;
using moe::reference_arch;
using test::GuardedRow;

struct Exact {
  std::vector<long double> p;
  long double top, lse;
};

template <class T>
Exact exact_softmax(const GuardedRow<T>& x) {
  Exact e;
  e.top = -std::numeric_limits<long double>::infinity();
  for (Index j = 0; j < x.size(); ++j) e.top = std::fmax(e.top, static_cast<long double>(x[j]));
  long double sum = 0;
  for (Index j = 0; j < x.size(); ++j) {
    e.p.push_back(std::exp(static_cast<long double>(x[j]) - e.top));
    sum += e.p.back();
  }
  for (long double& q : e.p) q /= sum;
  e.lse = e.top + std::log(sum);
  return e;
}

template <class T, class Arch>
void check_forward(double spread, Index masked_every) {
  const T inf = std::numeric_limits<T>::infinity();
  test::Numbers numbers(21);
  for (const Index n : test::kSizes) {
    for (Index shift = 0; shift < 3; ++shift) {
      GuardedRow<T> x(n, shift, numbers, -spread, spread);
      for (Index j = 1; j < n; ++j) {
        if (j % masked_every == 0) x[j] = -inf;
      }
      const Exact e = exact_softmax(x);
      const auto count = static_cast<long double>(n);
      const long double log_n = n > 0 ? std::log(count) : 0;
      GuardedRow<T> y(n, 2);
      moe::softmax_row<Arch>(x.data(), y.data(), n);
      CHECK(test::first_outside(
                y.data(), n, [&](Index j) { return e.p[static_cast<std::size_t>(j)]; },
                [&](Index j) {
                  const long double p = e.p[static_cast<std::size_t>(j)];
                  const long double distance = p == 0 ? 0 : e.top - static_cast<long double>(x[j]);
                  return (count + 6 + distance + log_n) * test::kRoundoff<T> * p + test::kTiny<T>;
                }) == -1);
      CHECK(y.guards_intact());
      for (Index j = 0; j < n; ++j) {
        if (x[j] == -inf) CHECK(y[j] == 0);
      }
      GuardedRow<T> in_place(x, 1);
      moe::softmax_row<Arch>(in_place.data(), in_place.data(), n);
      CHECK(test::first_bit_difference(in_place.data(), y.data(), n) == -1);
      CHECK(in_place.guards_intact());

      const T lse = moe::logsumexp_row<Arch>(x.data(), n);
      if (n == 0) {
        CHECK(lse == -inf);
      } else {
        CHECK(test::within(
            lse, e.lse,
            (count + 4 + 3 * log_n) * test::kRoundoff<T> + test::kRoundoff<T> * std::fabs(e.lse)));
      }
    }
  }
}

TEST_CASE("softmax and logsumexp stay within the bound", "[kernel][smoke]") {
  for (const double spread : {2.0, 40.0, 300.0}) {
    check_forward<float, native_arch>(spread, 1000000);
    check_forward<double, native_arch>(spread, 3);
    check_forward<float, reference_arch>(spread, 3);
    check_forward<double, reference_arch>(spread, 1000000);
  }
}

TEST_CASE("masked logits get exactly 0, a single finite one exactly 1", "[kernel]") {
  const float inf = std::numeric_limits<float>::infinity();
  for (const Index n : {1, 5, 16, 40}) {
    for (Index only = 0; only < n; ++only) {
      GuardedRow<float> x(n), y(n);
      for (Index j = 0; j < n; ++j) x[j] = j == only ? -3e38f : -inf;
      moe::softmax_row(x.data(), y.data(), n);
      for (Index j = 0; j < n; ++j) CHECK(y[j] == (j == only ? 1.0f : 0.0f));
      CHECK(moe::logsumexp_row(x.data(), n) == -3e38f);
    }
    GuardedRow<float> masked(n);
    for (Index j = 0; j < n; ++j) masked[j] = -inf;
    CHECK(moe::logsumexp_row(masked.data(), n) == -inf);
  }
}

TEST_CASE("softmax does not overflow", "[kernel]") {
  const float x[3] = {3e38f, 3e38f, -3e38f};
  float y[3];
  moe::softmax_row(x, y, 3);
  CHECK((y[0] == 0.5f && y[1] == 0.5f && y[2] == 0.0f));
}

template <class T, class Arch>
void check_backward() {
  test::Numbers numbers(23);
  for (const Index n : test::kSizes) {
    for (Index shift = 0; shift < 3; ++shift) {
      GuardedRow<T> p(n, shift, numbers, -3, 3);
      moe::softmax_row<Arch>(p.data(), p.data(), n);
      const GuardedRow<T> dp(n, 1, numbers), start(n, 0, numbers);
      GuardedRow<T> dx(start, 3 - shift);
      moe::softmax_backward_row<Arch>(p.data(), dp.data(), dx.data(), n);
      long double mean = 0, size = 0;
      for (Index j = 0; j < n; ++j) {
        mean += static_cast<long double>(p[j]) * dp[j];
        size += std::fabs(static_cast<long double>(p[j]) * dp[j]);
      }
      const long double u = test::kRoundoff<T>;
      CHECK(test::first_outside(
                dx.data(), n,
                [&](Index j) { return start[j] + static_cast<long double>(p[j]) * (dp[j] - mean); },
                [&](Index j) {
                  return p[j] * (3 * u * std::fabs(static_cast<long double>(dp[j])) +
                                 test::gamma<T>(n + 4) * size) +
                         u * std::fabs(static_cast<long double>(start[j])) + test::kTiny<T>;
                }) == -1);
      CHECK(dx.guards_intact());

      GuardedRow<T> moved(start, 0);
      const GuardedRow<T> moved_p(p, shift + 1), moved_dp(dp, 2);
      moe::softmax_backward_row<Arch>(moved_p.data(), moved_dp.data(), moved.data(), n);
      CHECK(test::first_bit_difference(moved.data(), dx.data(), n) == -1);
    }
  }
}

TEST_CASE("the backward of softmax stays within the bound at any alignment", "[kernel][smoke]") {
  check_backward<float, native_arch>();
  check_backward<double, native_arch>();
  check_backward<float, reference_arch>();
  check_backward<double, reference_arch>();
}

}  // namespace
