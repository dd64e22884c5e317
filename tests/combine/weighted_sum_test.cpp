#include "moe/combine/weighted_sum.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "moe/executor/openmp.hpp"
#include "moe/executor/pool.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "support/archetypes.hpp"
#include "support/catch.hpp"
#include "support/route_tables.hpp"

namespace {

using moe::Index;
using test::Choices;
using test::OwnedPlan;
using test::OwnedTable;

template <class Real>
using Bits = std::conditional_t<sizeof(Real) == 4, std::uint32_t, std::uint64_t>;

std::size_t at(Index i) {
  return static_cast<std::size_t>(i);
}

/// A plan, one result row per slot with values in [-1, 1], and an output with gaps between its rows.
template <class Real>
struct Case {
  Case(const Choices<Real>& choices, Index experts, Index width)
      : table(choices, experts),
        owned(table.table, moe::Dropless{}),
        d(width),
        z(at(plan().slots() * width)) {}

  const moe::DispatchPlan<Real>& plan() const { return owned.plan; }
  Index stride() const { return d + 3; }

  void fill(std::mt19937& random) {
    for (Real& v : z) v = static_cast<Real>(static_cast<double>(random()) * 0x1p-31 - 1);
    weight.resize(at(plan().slots()));
    for (Real& w : weight) w = static_cast<Real>(static_cast<double>(random()) * 0x1p-31 - 1);
    point();
  }
  void point() {
    row.resize(at(plan().slots()));
    for (Index s = 0; s < plan().slots(); ++s) row[at(s)] = z.data() + s * d;
  }

  /// [T, stride], preset to NaN.
  template <class X>
  std::vector<Real> combine(X& executor, bool weighted = true) const {
    std::vector<Real> y(at(plan().tokens * stride()), std::numeric_limits<Real>::quiet_NaN());
    moe::combine_row_pointers(plan(), row.data(), weighted ? weight.data() : nullptr,
                              moe::MatrixView<Real>(y.data(), plan().tokens, d, stride()), executor);
    return y;
  }

  OwnedTable<Real> table;
  OwnedPlan<Real> owned;
  Index d;
  std::vector<Real> z;       // [P, D]
  std::vector<Real> weight;  // [P]
  std::vector<const Real*> row;
};

template <class Real>
bool same_bits(const std::vector<Real>& a, const std::vector<Real>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::bit_cast<Bits<Real>>(a[i]) != std::bit_cast<Bits<Real>>(b[i])) return false;
  }
  return true;
}

TEMPLATE_TEST_CASE("combine is the weighted sum of a token's rows", "[combine][smoke]", float, double) {
  std::mt19937 random(31);
  const bool weighted = GENERATE(true, false);
  for (const Index width : {1, 2, 7, 8, 16, 17, 33, 70, 129}) {
    const Index tokens = static_cast<Index>(random() % 60);
    CAPTURE(width, tokens, weighted);
    Case<TestType> c(test::random_choices<TestType>(random, tokens, 6, 6), 6, width);
    c.fill(random);
    for (std::size_t s = 0; s < c.row.size(); s += 5) c.row[s] = nullptr;  // a result of zero
    moe::SerialExecutor serial;
    const std::vector<TestType> y = c.combine(serial, weighted);
    Index wrong = 0;
    for (Index t = 0; t < tokens; ++t) {
      for (Index j = 0; j < width; ++j) {
        long double sum = 0, magnitude = 0;
        Index terms = 0;
        for (Index s = 0; s < c.plan().slots(); ++s) {
          if (c.plan().token[s] != t || c.row[at(s)] == nullptr) continue;
          const long double w = weighted ? c.weight[at(s)] : TestType{1};
          sum += w * static_cast<long double>(c.row[at(s)][j]);
          magnitude += std::abs(w * static_cast<long double>(c.row[at(s)][j]));
          ++terms;
        }
        // gamma_{2 terms}: a rounding each for product and sum where there is no fma; + 1 for this sum's own.
        const long double u = std::numeric_limits<TestType>::epsilon() / 2;
        const long double n = static_cast<long double>(2 * terms + 1) * u;
        const long double value = y[at(t * c.stride() + j)];
        if (!(std::abs(value - sum) <= n / (1 - n) * magnitude)) ++wrong;
      }
      for (Index j = width; j < c.stride(); ++j) wrong += !std::isnan(y[at(t * c.stride() + j)]);  // gaps
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("a token without slots, or with null rows only, gets +0", "[combine]") {
  Case<float> c({{{0, 1.0f}}, {}, {{1, 1.0f}}}, 2, 5);
  std::mt19937 random(1);
  c.fill(random);
  c.row[1] = nullptr;  // of token 2
  moe::SerialExecutor serial;
  const std::vector<float> y = c.combine(serial);
  for (Index j = 0; j < 5; ++j) {
    CHECK(std::bit_cast<std::uint32_t>(y[at(c.stride() + j)]) == 0);
    CHECK(std::bit_cast<std::uint32_t>(y[at(2 * c.stride() + j)]) == 0);
  }
}

TEST_CASE("combine adds in ascending expert id, whatever the order of choices", "[combine]") {
  // (1e8 - 1e8) + 1 = 1; in any order with the 1 before the last it would be lost.
  const std::pair<moe::ExpertId, float> big{0, 1.0f}, minus_big{1, 1.0f}, one{2, 1.0f};
  const Choices<float> orders = {{big, minus_big, one}, {one, big, minus_big}, {minus_big, one, big},
                                 {one, minus_big, big}, {big, one, minus_big}, {minus_big, big, one}};
  Case<float> c(orders, 3, 20);
  const float value[] = {1e8f, -1e8f, 1.0f};
  for (Index e = 0; e < 3; ++e) {
    for (Index s = c.plan().offsets[e]; s < c.plan().offsets[e + 1]; ++s) {
      for (Index j = 0; j < 20; ++j) c.z[at(s * 20 + j)] = value[e];
    }
  }
  c.weight.assign(c.plan().slots() == 18 ? 18 : 0, 1.0f);
  c.point();
  moe::SerialExecutor serial;
  const std::vector<float> y = c.combine(serial);
  for (Index t = 0; t < 6; ++t) {
    for (Index j = 0; j < 20; ++j) CHECK(y[at(t * c.stride() + j)] == 1.0f);
  }
}

TEMPLATE_TEST_CASE("combine has the same bits for every executor", "[combine][smoke][threads]", float,
                   double) {
  std::mt19937 random(37);
  for (const Index tokens : {1, 15, 16, 17, 100}) {
    Case<TestType> c(test::random_choices<TestType>(random, tokens, 8, 5), 8, 37);
    c.fill(random);
    moe::SerialExecutor serial;
    const std::vector<TestType> expected = c.combine(serial);
    for (const Index threads : {1, 2, 3, 8}) {
      moe::PoolExecutor pool(threads);
      CHECK(same_bits(c.combine(pool), expected));
    }
    test::ExecutorArchetype archetype(0);
    CHECK(same_bits(c.combine(archetype), expected));
#if defined(_OPENMP)
    moe::OpenMpExecutor openmp(3);
    CHECK(same_bits(c.combine(openmp), expected));
#endif
  }
}

TEMPLATE_TEST_CASE("combine: a token's bits do not depend on the batch", "[combine]", float, double) {
  std::mt19937 random(41);
  const Index tokens = 50, width = 45;
  const auto choices = test::random_choices<TestType>(random, tokens, 7, 7);
  Case<TestType> batch(choices, 7, width);
  batch.fill(random);
  moe::SerialExecutor serial;
  const std::vector<TestType> all = batch.combine(serial);
  for (Index t = 0; t < tokens; ++t) {
    Case<TestType> alone({choices[at(t)]}, 7, width);
    const moe::DispatchPlan<TestType>& plan = batch.plan();
    // Slots of one token ascend by expert in both plans.
    for (Index i = plan.token_offsets[t]; i < plan.token_offsets[t + 1]; ++i) {
      const Index from = plan.token_slot[i], to = i - plan.token_offsets[t];
      alone.weight.push_back(batch.weight[at(from)]);
      for (Index j = 0; j < width; ++j) alone.z[at(to * width + j)] = batch.z[at(from * width + j)];
    }
    alone.point();
    const std::vector<TestType> y = alone.combine(serial);
    const auto begin = all.begin() + t * batch.stride();
    CHECK(same_bits(std::vector<TestType>(y.begin(), y.begin() + width),
                    std::vector<TestType>(begin, begin + width)));
  }
}

TEST_CASE("combine: nothing to do", "[combine]") {
  Case<float> c({}, 3, 4);
  moe::SerialExecutor serial;
  CHECK(c.combine(serial).empty());
}

}  // namespace
