#include "moe/kernel/outer_tile.hpp"

#include <limits>
#include <vector>

#include "support/catch.hpp"
#include "support/products.hpp"

namespace {

using moe::Index;
using moe::kPanel;
using test::AlignedBlock;

/// Adds an outer product of random numbers to a random panel of m rows, checks every element against a long
/// double sum and, bit for bit, against one scalar chain of fma.
template <class Arch, class T>
void check_outer(Index count, Index m) {
  constexpr Index kRows = moe::kTileRows<Arch, T>;
  test::Draw draw(static_cast<std::uint64_t>(count * 100 + m));
  AlignedBlock<T> left(count * kRows, std::numeric_limits<T>::quiet_NaN());
  const std::vector<T> right = test::numbers<T>(count * (kPanel<T> + 1), static_cast<std::uint64_t>(m));
  AlignedBlock<T> panel(kRows * kPanel<T>), before(kRows * kPanel<T>), next(kRows * kPanel<T>);
  next.bury(0);
  std::vector<const T*> right_row;  // of any alignment
  for (Index p = 0; p < count; ++p) right_row.push_back(right.data() + p * (kPanel<T> + 1) + 1);
  for (Index p = 0; p < count; ++p) {
    for (Index i = 0; i < m; ++i) left[p * kRows + i] = draw.next<T>();
  }
  for (Index i = 0; i < m * kPanel<T>; ++i) panel[i] = before[i] = draw.next<T>();
  panel.bury(m * kPanel<T>);
  moe::outer_tile<Arch>(left.data(), right_row.data(), count, m, panel.data(), next.data());
  bool near = true, same = true;
  for (Index i = 0; i < m; ++i) {
    for (Index c = 0; c < kPanel<T>; ++c) {
      test::ProductSum sum;
      T chain = 0;
      sum.add(before[i * kPanel<T> + c], 1);
      for (Index p = 0; p < count; ++p) {
        sum.add(left[p * kRows + i], right_row[static_cast<std::size_t>(p)][c]);
        chain = moe::fma(left[p * kRows + i], right_row[static_cast<std::size_t>(p)][c], chain);
      }
      const T expected = before[i * kPanel<T> + c] + chain;
      near = near && sum.admits(panel[i * kPanel<T> + c]);
      same = same && test::same_bits(&expected, &panel[i * kPanel<T> + c], 1);
    }
  }
  INFO("count " << count << ", m " << m);
  CHECK(near);
  if (test::kScalarsRoundLikeVectors) CHECK(same);
  CHECK(panel.intact_from(m * kPanel<T>));
  CHECK(next.intact_from(0));
}

}  // namespace

TEMPLATE_TEST_CASE("outer_tile adds the sum of outer products, one chain an element", "[kernel][smoke][arm]",
                   float, double) {
  for (const Index count : {0, 1, 2, 3, 17, 100, 257}) {
    for (Index m = 1; m <= moe::kTileRows<moe::native_arch, TestType>; ++m) {
      check_outer<moe::native_arch, TestType>(count, m);
    }
    for (Index m = 1; m <= moe::kTileRows<moe::reference_arch, TestType>; ++m) {
      check_outer<moe::reference_arch, TestType>(count, m);
    }
  }
}
