#include "moe/kernel/weighted_sum.hpp"

#include <vector>

#include "kernel/guarded_row.hpp"
#include "support/catch.hpp"
#include "support/close.hpp"

namespace {

using moe::Index;
using moe::native_arch;
using moe::reference_arch;
using test::GuardedRow;

template <class T, class Arch>
void check_bits() {
  test::Numbers numbers(5);
  for (const Index n : test::kSizes) {
    for (Index count = 0; count <= 9; ++count) {
      std::vector<GuardedRow<T>> rows;
      std::vector<const T*> z;
      std::vector<T> w;
      for (Index i = 0; i < count; ++i) rows.emplace_back(n, i % 4, numbers);
      for (Index i = 0; i < count; ++i) {
        z.push_back(i % 4 == 2 ? nullptr : rows[static_cast<std::size_t>(i)].data());
        w.push_back(static_cast<T>(numbers.uniform(-1, 1)));
      }
      const GuardedRow<T> start(n, 0, numbers);
      GuardedRow<T> summed(start, 1), added(start, 2);
      moe::weighted_sum_rows<Arch>(z.data(), w.data(), count, summed.data(), n);
      moe::accumulate_weighted_rows<Arch>(z.data(), w.data(), count, added.data(), n);

      // By definition: one fma after the other, i ascending, from +0 or from what was there.
      GuardedRow<T> want_summed(n), want_added(start, 0);
      for (Index j = 0; j < n; ++j) {
        for (Index i = 0; i < count; ++i) {
          const T* row = z[static_cast<std::size_t>(i)];
          if (row == nullptr) continue;
          want_summed[j] = moe::fma(w[static_cast<std::size_t>(i)], row[j], want_summed[j]);
          want_added[j] = moe::fma(w[static_cast<std::size_t>(i)], row[j], want_added[j]);
        }
      }
      CHECK(test::first_bit_difference(summed.data(), want_summed.data(), n) == -1);
      CHECK(test::first_bit_difference(added.data(), want_added.data(), n) == -1);
      CHECK(summed.guards_intact());
      CHECK(added.guards_intact());
    }
  }
}

TEST_CASE("weighted sums are fma by fma, skipping null rows, on every arch", "[kernel][smoke]") {
  check_bits<float, native_arch>();
  check_bits<double, native_arch>();
  check_bits<float, reference_arch>();
  check_bits<double, reference_arch>();
}

TEST_CASE("a weighted sum of nothing and of negative zeros is +0", "[kernel]") {
  const float row[5] = {-0.0f, -0.0f, -0.0f, -0.0f, -0.0f}, zero[5] = {};
  const float* z[] = {row, nullptr};
  const float w[] = {1, 1};
  float y[5] = {7, 7, 7, 7, 7};
  moe::weighted_sum_rows(z, w, 0, y, 5);
  CHECK(test::first_bit_difference(y, zero, 5) == -1);
  y[3] = 7;
  moe::weighted_sum_rows(z, w, 2, y, 5);
  CHECK(test::first_bit_difference(y, zero, 5) == -1);
}

}  // namespace
