#include "moe/core/random.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "moe/core/types.hpp"
#include "support/catch.hpp"

namespace {

using moe::DrawStream;
using moe::Index;
using moe::KeyedRandom;
using moe::philox;
using moe::PhiloxCounter;

bool same(PhiloxCounter a, PhiloxCounter b) {
  return std::equal(a.word, a.word + 4, b.word);
}

TEST_CASE("Philox 4x32-10: known answers", "[core]") {
  // kat_vectors of Random123 1.14: all zeros, all ones, digits of pi.
  CHECK(same(philox({{0, 0, 0, 0}}, 0, 0), {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}));
  CHECK(same(philox({{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}}, 0xffffffff, 0xffffffff),
             {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}));
  CHECK(same(philox({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0),
             {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}));
}

TEST_CASE("a draw is a function of its key", "[core]") {
  const KeyedRandom a(7, 3, DrawStream::jitter), b(7, 3, DrawStream::jitter);
  const std::uint64_t first = a.bits(5, 2);
  a.bits(1, 1);
  a.normal(5, 2);
  CHECK(a.bits(5, 2) == first);
  CHECK(b.bits(5, 2) == first);
  CHECK(b.uniform(5, 2) == a.uniform(5, 2));
  CHECK(b.normal(5, 2) == a.normal(5, 2));
}

TEST_CASE("a counter gives every call a key of its own; a copy gives the same again", "[core]") {
  moe::DrawCounter draws(7);
  std::vector<std::uint64_t> first;
  for (int call = 0; call < 100; ++call) {
    const moe::DrawCounter copy = draws;
    first.push_back(KeyedRandom(draws.key(), DrawStream::jitter).bits(0, 0));
    draws.advance();
    CHECK(KeyedRandom(copy.key(), DrawStream::jitter).bits(0, 0) == first.back());
    CHECK(first.back() == KeyedRandom(7, copy.calls(), DrawStream::jitter).bits(0, 0));
  }
  CHECK((draws.seed() == 7 && draws.calls() == 100));
  const moe::DrawCounter resumed(draws.seed(), 40);
  CHECK(KeyedRandom(resumed.key(), DrawStream::jitter).bits(0, 0) == first[40]);
  std::sort(first.begin(), first.end());
  CHECK(std::adjacent_find(first.begin(), first.end()) == first.end());
}

TEST_CASE("every part of the key changes the draw", "[core]") {
  // 64-bit draws over a grid of keys, high halves of seed, step and row included: none may be equal. By
  // chance two of n would be with probability n^2 / 2^65, here 3e-13.
  std::vector<std::uint64_t> draws;
  const std::uint64_t parts[] = {0, 1, 2, std::uint64_t{1} << 32, std::uint64_t{2} << 32, ~std::uint64_t{0}};
  for (const std::uint64_t seed : parts) {
    for (const std::uint64_t step : parts) {
      for (const DrawStream stream : {DrawStream::initialise, DrawStream::jitter, DrawStream::logit_noise,
                                      DrawStream::second_expert, DrawStream::user}) {
        const KeyedRandom random(seed, step, stream);
        for (const std::uint64_t row : parts) {
          for (const std::uint32_t lane : {0u, 1u, 2u, 0xffffffffu}) draws.push_back(random.bits(row, lane));
        }
      }
    }
  }
  REQUIRE(draws.size() == 6 * 6 * 5 * 6 * 4);
  std::sort(draws.begin(), draws.end());
  CHECK(std::adjacent_find(draws.begin(), draws.end()) == draws.end());
}

TEST_CASE("uniform draws: open interval, moments, cells", "[core]") {
  const Index rows = 1000, lanes = 100;
  const double n = static_cast<double>(rows * lanes);
  const KeyedRandom random(11, 0, DrawStream::user);
  double least = 1, most = 0, sum = 0, squares = 0, neighbours = 0, previous = 0.5;
  double cells[64] = {};
  for (Index r = 0; r < rows; ++r) {
    for (Index l = 0; l < lanes; ++l) {
      const double u = random.uniform(static_cast<std::uint64_t>(r), static_cast<std::uint32_t>(l));
      least = std::min(least, u);
      most = std::max(most, u);
      sum += u;
      squares += u * u;
      neighbours += (u - 0.5) * (previous - 0.5);
      previous = u;
      ++cells[static_cast<int>(u * 64)];
    }
  }
  CHECK((least > 0 && most < 1));
  // Five standard deviations of each statistic: var u = 1/12, var u^2 = 4/45, var of the product 1/144.
  CHECK(std::abs(sum / n - 0.5) < 5 * std::sqrt(1 / (12 * n)));
  CHECK(std::abs(squares / n - 1.0 / 3) < 5 * std::sqrt(4 / (45 * n)));
  CHECK(std::abs(neighbours / n) < 5 * std::sqrt(1 / (144 * n)));
  double chi2 = 0;
  for (const double count : cells) chi2 += (count - n / 64) * (count - n / 64) / (n / 64);
  CHECK(std::abs(chi2 - 63) < 5 * std::sqrt(2 * 63.0));
}

TEST_CASE("normal draws: moments and tails", "[core]") {
  const Index rows = 500, lanes = 200;
  const double n = static_cast<double>(rows * lanes);
  const KeyedRandom random(13, 4, DrawStream::logit_noise);
  double moment[5] = {};
  double beyond_two = 0, farthest = 0;
  for (Index r = 0; r < rows; ++r) {
    for (Index l = 0; l < lanes; ++l) {
      const double z = random.normal(static_cast<std::uint64_t>(r), static_cast<std::uint32_t>(l));
      farthest = std::max(farthest, std::abs(z));
      for (int k = 1; k < 5; ++k) moment[k] += std::pow(z, k);
      beyond_two += std::abs(z) > 2;
    }
  }
  CHECK(farthest < 8.6);  // sqrt(-2 log 2^-53) = 8.57
  // Variances of z, z^2, z^3, z^4: 1, 2, 15, 96.
  CHECK(std::abs(moment[1] / n) < 5 * std::sqrt(1 / n));
  CHECK(std::abs(moment[2] / n - 1) < 5 * std::sqrt(2 / n));
  CHECK(std::abs(moment[3] / n) < 5 * std::sqrt(15 / n));
  CHECK(std::abs(moment[4] / n - 3) < 5 * std::sqrt(96 / n));
  const double p = std::erfc(std::sqrt(2.0));  // P(|z| > 2)
  CHECK(std::abs(beyond_two / n - p) < 5 * std::sqrt(p * (1 - p) / n));
}

TEST_CASE("neighbouring keys are not correlated", "[core]") {
  // Pairs of draws whose keys differ in one part: E[z1 z2] = 0 with variance 1.
  const Index n = 20000;
  const KeyedRandom base(1, 1, DrawStream::user), seed(2, 1, DrawStream::user), step(1, 2, DrawStream::user),
      stream(1, 1, DrawStream::jitter), swapped(2, 0, DrawStream::user);
  double by_seed = 0, by_step = 0, by_stream = 0, by_swap = 0, by_row = 0, by_lane = 0;
  for (Index i = 0; i < n; ++i) {
    const auto row = static_cast<std::uint64_t>(i);
    const double z = base.normal(row, 0);
    by_seed += z * seed.normal(row, 0);
    by_step += z * step.normal(row, 0);
    by_stream += z * stream.normal(row, 0);
    by_swap += z * swapped.normal(row, 0);
    by_row += z * base.normal(row + 1, 0);
    by_lane += z * base.normal(row, 1);
  }
  const double bound = 5 * std::sqrt(static_cast<double>(n));
  for (const double sum : {by_seed, by_step, by_stream, by_swap, by_row, by_lane})
    CHECK(std::abs(sum) < bound);
}

}  // namespace
