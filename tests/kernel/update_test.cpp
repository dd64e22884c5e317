#include "moe/kernel/update.hpp"

#include "kernel/guarded_row.hpp"
#include "moe/kernel/math.hpp"
#include "support/catch.hpp"
#include "support/close.hpp"

namespace {

using moe::Index;
using test::GuardedRow;

/// Reads and writes everything that a rule may: w' = a' + w sqrt(b'), a' = a g + w, b' = b + g^2.
struct SampleRule {
  static constexpr Index kMoments = 2;
  template <class V>
  V operator()(const V& w, const V& g, V* moment) const noexcept {
    moment[0] = moe::fma(moment[0], g, w);
    moment[1] = moe::fma(g, g, moment[1]);
    return moe::fma(w, moe::math::square_root(moment[1]), moment[0]);
  }
};

/// w' = w - g.
struct PlainRule {
  static constexpr Index kMoments = 0;
  template <class V>
  V operator()(const V& w, const V& g, V*) const noexcept {
    return w - g;
  }
};

template <class T>
struct Rows {
  GuardedRow<T> w, g, a, b;
  Rows(Index n, test::Numbers& numbers)
      : w(n, 0, numbers), g(n, 0, numbers), a(n, 0, numbers), b(n, 0, numbers, 0, 2) {}
  Rows(const Rows& other, Index shift)
      : w(other.w, shift), g(other.g, (shift + 1) % 4), a(other.a, (2 * shift) % 5), b(other.b, 3 - shift) {}

  template <class Arch>
  void update(Index first, Index n) {
    T* const moments[] = {a.data() + first, b.data() + first};
    moe::update_row<Arch>(SampleRule{}, w.data() + first, g.data() + first, moments, n);
  }
  bool intact() const {
    return w.guards_intact() && g.guards_intact() && a.guards_intact() && b.guards_intact();
  }
  bool same_as(const Rows& other) const {
    const Index n = w.size();
    return test::first_bit_difference(w.data(), other.w.data(), n) == -1 &&
           test::first_bit_difference(g.data(), other.g.data(), n) == -1 &&
           test::first_bit_difference(a.data(), other.a.data(), n) == -1 &&
           test::first_bit_difference(b.data(), other.b.data(), n) == -1;
  }
};

template <class T>
void check_updates() {
  test::Numbers numbers(1);
  for (const Index n : test::kSizes) {
    const Rows<T> start(n, numbers);
    Rows<T> want(start, 0);
    want.template update<moe::reference_arch>(0, n);
    for (Index j = 0; j < n; ++j) REQUIRE(want.g[j] == 0);
    for (Index shift = 0; shift < 4; ++shift) {
      Rows<T> row(start, shift), single(start, shift);
      row.template update<moe::native_arch>(0, n);
      for (Index j = 0; j < n; ++j) single.template update<moe::native_arch>(j, 1);
      CHECK((row.same_as(want) && row.intact()));
      CHECK((single.same_as(want) && single.intact()));
    }
  }
  T w[] = {5, 7, 9}, g[] = {1, 2, 3};
  moe::update_row(PlainRule{}, w, g, nullptr, 3);
  CHECK((w[0] == 4 && w[1] == 5 && w[2] == 6 && g[0] == 0 && g[1] == 0 && g[2] == 0));
}

TEST_CASE("an update gives the reference's bits at any alignment, and uses the gradients up",
          "[kernel][smoke][arm]") {
  check_updates<float>();
  check_updates<double>();
}

}  // namespace
