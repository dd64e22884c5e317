#include "moe/kernel/top_k.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "kernel/guarded_row.hpp"
#include "support/catch.hpp"

namespace {

using moe::ExpertId;
using moe::Index;
using moe::native_arch;
using moe::reference_arch;
using test::GuardedRow;

/// By definition: sorted, highest first, then by index.
template <class T>
std::vector<ExpertId> sorted_ids(const GuardedRow<T>& score) {
  std::vector<ExpertId> id(static_cast<std::size_t>(score.size()));
  std::iota(id.begin(), id.end(), 0);
  std::sort(id.begin(), id.end(),
            [&](ExpertId a, ExpertId b) { return score[a] != score[b] ? score[a] > score[b] : a < b; });
  return id;
}

template <class Arch, class T>
bool agrees(const GuardedRow<T>& score, Index k, const std::vector<ExpertId>& sorted) {
  std::vector<ExpertId> out(static_cast<std::size_t>(k) + 2, -77);
  moe::top_k_row<Arch>(score.data(), score.size(), k, out.data() + 1);
  return out.front() == -77 && out.back() == -77 &&
         std::equal(out.begin() + 1, out.end() - 1, sorted.begin());
}

template <class T>
void check_all_k(const GuardedRow<T>& score) {
  const std::vector<ExpertId> sorted = sorted_ids(score);
  const Index n = score.size();
  for (Index k = 0; k <= n; k += k < 40 ? 1 : 37) {
    INFO("n = " << n << ", k = " << k);
    REQUIRE(agrees<native_arch>(score, k, sorted));
    REQUIRE(agrees<reference_arch>(score, k, sorted));
  }
  REQUIRE(agrees<native_arch>(score, n, sorted));
}

constexpr Index kLengths[] = {1,  2,  7,  8,  9,   15,  16,  17,  31,  32, 33,
                              60, 63, 64, 65, 127, 128, 160, 256, 300, 512};

template <class T>
void check_random() {
  test::Numbers numbers(31);
  const T inf = std::numeric_limits<T>::infinity();
  for (const Index n : kLengths) {
    for (Index shift = 0; shift < 2; ++shift) {
      check_all_k(GuardedRow<T>(n, shift, numbers));
      // Few distinct values, zeros of both signs among them: ties everywhere.
      GuardedRow<T> tied(n, shift);
      for (Index j = 0; j < n; ++j) {
        const T value[] = {T(-0.0), T(0.0), T(1), T(-1)};
        tied[j] = value[numbers.bits() >> 62];
      }
      check_all_k(tied);
      // Masked experts: scattered, and all but three.
      GuardedRow<T> masked(n, shift, numbers);
      for (Index j = 0; j < n; ++j) {
        if (numbers.bits() >> 63 != 0) masked[j] = -inf;
      }
      check_all_k(masked);
      for (Index j = 0; j < n; ++j) {
        if (j != 0 && j != n / 2 && j != n - 1) masked[j] = -inf;
      }
      check_all_k(masked);
    }
  }
}

TEST_CASE("top_k is the head of the sorted ids", "[kernel][smoke]") {
  check_random<float>();
  check_random<double>();
}

template <class T>
void check_patterns() {
  for (const Index n : kLengths) {
    GuardedRow<T> ascending(n), descending(n), equal(n), group(n);
    for (Index j = 0; j < n; ++j) {
      ascending[j] = static_cast<T>(j);
      descending[j] = static_cast<T>(-j);
      equal[j] = T(2);
      group[j] = static_cast<T>(j % 16 == 3 ? j : 0);  // the best ones share a lane
    }
    check_all_k(ascending);
    check_all_k(descending);
    check_all_k(equal);
    check_all_k(group);
  }
  GuardedRow<T> huge(70);
  for (Index j = 0; j < 70; ++j) {
    huge[j] = j % 3 == 0   ? std::numeric_limits<T>::max()
              : j % 3 == 1 ? std::numeric_limits<T>::denorm_min()
                           : std::numeric_limits<T>::lowest();
  }
  check_all_k(huge);
}

TEST_CASE("top_k of sorted, equal and extreme scores", "[kernel]") {
  check_patterns<float>();
  check_patterns<double>();
}

TEST_CASE("top_k of a long row, as expert choice asks for", "[kernel]") {
  test::Numbers numbers(37);
  const GuardedRow<float> score(5000, 1, numbers);
  const std::vector<ExpertId> sorted = sorted_ids(score);
  for (const Index k : {1, 16, 32, 33, 625, 5000}) CHECK(agrees<native_arch>(score, k, sorted));
  CHECK(agrees<reference_arch>(score, 625, sorted));
}

}  // namespace
