// The bounds of bounded.hpp hold for float computations in any order, are not useless, and tell near ties.
#include "support/bounded.hpp"

#include <random>

#include "support/catch.hpp"

namespace {

using namespace test;

bool holds(float computed, Bounded b) {
  return std::abs(static_cast<double>(computed) - b.v) <= b.e;
}

}  // namespace

TEST_CASE("bounds hold for sums and products in float, forwards, backwards and in pairs", "[support]") {
  unit_roundoff = 0x1p-24;
  std::mt19937_64 random(3);
  std::normal_distribution<float> normal;
  double loosest = 0;
  for (int trial = 0; trial < 300; ++trial) {
    const std::size_t n = 1 + random() % 200;
    std::vector<float> a(n), b(n);
    Row ra, rb;
    for (std::size_t i = 0; i < n; ++i) {
      a[i] = normal(random);
      b[i] = normal(random);
      ra.emplace_back(static_cast<double>(a[i]));
      rb.emplace_back(static_cast<double>(b[i]));
    }
    float forwards = 0, backwards = 0, even = 0, odd = 0;
    double magnitude = 0;
    for (std::size_t i = 0; i < n; ++i) {
      forwards = std::fma(a[i], b[i], forwards);
      backwards += a[n - 1 - i] * b[n - 1 - i];
      (i % 2 == 0 ? even : odd) += a[i] * b[i];
      magnitude += std::abs(static_cast<double>(a[i]) * static_cast<double>(b[i]));
    }
    const Bounded want = test::dot(ra, rb);
    CHECK(holds(forwards, want));
    CHECK(holds(backwards, want));
    CHECK(holds(even + odd, want));
    // One element missing shows, unless it is itself below the bound.
    const float last = a[n - 1] * b[n - 1];
    if (std::abs(static_cast<double>(last)) > 3 * want.e) CHECK_FALSE(holds(forwards - last, want));
    loosest = std::max(loosest, want.e / magnitude);
  }
  CHECK(loosest < 300 * 0x1p-24);
}

TEST_CASE("bounds carry the errors of operands", "[support]") {
  unit_roundoff = 0x1p-24;
  const Bounded x(3.0, 1e-3), y(-2.0, 1e-3);
  CHECK((x * y).e >= 5e-3);
  CHECK((x * y).e < 5.01e-3);
  CHECK((x + y).e >= 2e-3);
  CHECK((x / y).e >= 1.25e-3);
  CHECK((x / y).e < 1.26e-3);
  CHECK(test::exp(x).e >= std::exp(3.0) * 1e-3);
  CHECK(sigmoid(x).e >= 1e-3 * sigmoid(x).v * (1 - sigmoid(x).v));
}

TEST_CASE("softmax and activations of float are within their bounds", "[support]") {
  unit_roundoff = 0x1p-24;
  std::mt19937_64 random(5);
  std::normal_distribution<float> normal(0, 3);
  for (int trial = 0; trial < 200; ++trial) {
    Row logit;
    std::vector<float> l(9);
    float total = 0;
    for (float& v : l) {
      v = normal(random);
      logit.emplace_back(static_cast<double>(v));
      total += std::exp(v);
    }
    const Row p = softmax(logit);
    for (std::size_t i = 0; i < l.size(); ++i) CHECK(holds(std::exp(l[i]) / total, p[i]));
    const float x = l[0];
    CHECK(holds(x / (1 + std::exp(-x)), activate(Act::silu, logit[0])));
    CHECK(holds(0.5f * x * std::erfc(-x * static_cast<float>(M_SQRT1_2)), activate(Act::gelu_erf, logit[0])));
    CHECK_FALSE(holds(x / (1 + std::exp(-x)) * 1.001f + 1e-4f, activate(Act::silu, logit[0])));
  }
}

TEST_CASE("rounded rows are half a step more wrong than they were", "[support]") {
  const Row row{Bounded(1 + 0x1p-8), Bounded(-3, 0.5)};
  CHECK(rounded_row(row, Format::dense)[0].e == 0);
  // bf16 has 1 and 1 + 2^-7 and nothing between.
  const Row bf16 = rounded_row(row, Format::bf16);
  CHECK(bf16[0].v == row[0].v);
  CHECK(bf16[0].e >= 0x1p-8);
  CHECK(bf16[0].e < 0x1.03p-8);
  CHECK(bf16[1].e >= 0.5 + 0x1p-8 * 3.5);
  // 8-bit codes: half a step of the largest of the 32, errors included.
  Row codes(40, Bounded(1));
  codes[5] = Bounded(-126, 1);
  for (const Format format : {Format::int8, Format::int4}) {
    const Row got = rounded_row(codes, format);
    CHECK(got[31].e >= 0.5);
    CHECK(got[31].e < 0.501);
    CHECK(got[5].e >= 1.5);
    CHECK(got[32].e >= 0.5 / 127);
    CHECK(got[32].e < 0.501 / 127);
  }
  CHECK(rounded_row(Row(1), Format::int8)[0].e > 0);
  CHECK(rounded_row(codes, Format::int8_channels)[32].e == rounded_row(codes, Format::int8)[31].e);
}

TEST_CASE("orders that rounding could turn are called ambiguous", "[support]") {
  bool ambiguous = false;
  CHECK(before(Bounded(2, 0.1), 5, Bounded(1, 0.1), 0, ambiguous));
  CHECK_FALSE(ambiguous);
  CHECK(before(Bounded(1), 0, Bounded(1), 1, ambiguous));  // an exact tie: the lower index
  CHECK_FALSE(before(Bounded(1), 1, Bounded(1), 0, ambiguous));
  CHECK_FALSE(ambiguous);
  before(Bounded(1, 0.3), 0, Bounded(1.5, 0.3), 1, ambiguous);
  CHECK(ambiguous);
}
