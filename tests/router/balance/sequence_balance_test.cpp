#include "moe/router/balance/sequence_balance.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "moe/router/balance/load_balance.hpp"
#include "support/balance_case.hpp"

namespace {

using moe::Index;
using moe::SequenceBalance;
using test::BalanceCase;

constexpr auto kChosen = moe::SequenceCounts::chosen;

/// Of what was chosen, whatever scores highest.
SequenceBalance of_chosen(double coefficient) {
  return SequenceBalance({.coefficient = coefficient, .counts = kChosen});
}

bool close(double a, double b) {
  return std::abs(a - b) <= 1e-12 * (1 + std::abs(b));
}

/// Rows [first, last) of a case by themselves.
BalanceCase slice(const BalanceCase& c, Index first, Index last) {
  BalanceCase part(last - first, c.outputs, c.most);
  for (Index t = first; t < last; ++t) {
    for (Index e = 0; e < c.outputs; ++e)
      part.p(t - first, e) = c.probability[static_cast<std::size_t>(t * c.outputs + e)];
    for (Index i = 0; i < c.most; ++i)
      part.choice(t - first, i) = c.chosen[static_cast<std::size_t>(t * c.most + i)];
    part.active[t - first] = c.active[t];
  }
  return part;
}

}  // namespace

TEST_CASE("sequence balance: two sequences that only balance each other", "[sequence_balance]") {
  // Tokens of segment 0 on expert 0, of segment 1 on expert 1: balanced as a batch, not as sequences.
  BalanceCase c(4, 2, 1);
  for (Index t = 0; t < 4; ++t) {
    const moe::ExpertId e = t < 1 ? 0 : 1;  // segments of 1 and 3 tokens count alike
    c.choice(t, 0) = e;
    c.p(t, e) = 1;
  }
  c.score = c.probability;
  const std::vector<Index> offsets{0, 1, 4};
  c.call.segments = moe::Segments(offsets);
  for (const SequenceBalance& part : {SequenceBalance(0.5), of_chosen(0.5)}) {
    c.call.segments = moe::Segments(offsets);
    CHECK(close(c.loss(part), 0.5 * 2));
    c.call.segments = {};
    CHECK(close(c.loss(part), 0.5 * 2 * (1.0 / 16 + 9.0 / 16)));
  }
}

TEST_CASE("sequence balance counts the best scores, or what a bias made of them", "[sequence_balance]") {
  // Two of four experts each: the scores say 0 and 1, a bias chose 2 and 3 for the second token. A masked
  // output is not among the best, whatever its score.
  BalanceCase c(2, 4, 2);
  c.score = {0.9, 0.8, 0.2, 0.1, 0.7, 0.6, 0.4, 0.3};
  for (std::size_t i = 0; i < 8; ++i) c.probability[i] = c.score[i] / 2;
  c.chosen = {0, 1, 2, 3};
  const double p[] = {(0.45 + 0.35) / 2, (0.4 + 0.3) / 2, (0.1 + 0.2) / 2, (0.05 + 0.15) / 2};
  // f_e = N / (K T) * count: 4 / (2 * 2) = 1 for each.
  CHECK(close(c.loss(SequenceBalance(1)), 2 * p[0] + 2 * p[1]));
  CHECK(close(c.loss(of_chosen(1)), p[0] + p[1] + p[2] + p[3]));
  c.logit[5] = -std::numeric_limits<double>::infinity();  // expert 1 of the second token
  CHECK(close(c.loss(SequenceBalance(1)), 2 * p[0] + p[1] + p[2]));
}

TEST_CASE("sequence balance is the mean of the segments' load-balance losses", "[sequence_balance]") {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    INFO("seed " << seed);
    BalanceCase c = test::random_balance_case(17, 6, 1 + static_cast<Index>(seed % 3), seed);
    // Segment 1 is empty, segment 3 has no active token (2 and 7 are inactive): neither counts.
    const std::vector<Index> offsets{0, 5, 5, 7, 8, 17};
    c.call.segments = moe::Segments(offsets);
    double sum = 0;
    for (const std::size_t s : {0u, 2u, 4u})
      sum += slice(c, offsets[s], offsets[s + 1]).loss(moe::LoadBalance({.coefficient = 0.3}));
    CHECK(close(c.loss(of_chosen(0.3)), sum / 3));
    test::check_probability_gradient(SequenceBalance(0.3), c, -1.5);
    test::check_probability_gradient(of_chosen(0.3), c, -1.5);
    c.call.segments = {};
    CHECK(close(c.loss(of_chosen(0.3)), c.loss(moe::LoadBalance({.coefficient = 0.3}))));
    test::check_probability_gradient(SequenceBalance(0.3), c, 1);
  }
}

TEST_CASE("sequence balance of equal segments of a tensor", "[sequence_balance]") {
  BalanceCase c = test::random_balance_case(12, 5, 2, 7);
  const std::vector<Index> offsets{0, 4, 8, 12};
  c.call.segments = moe::Segments(offsets);
  const double loss = c.loss(SequenceBalance(1));
  c.call.segments = moe::Segments::uniform(4);
  CHECK(c.loss(SequenceBalance(1)) == loss);
}

TEST_CASE("sequence balance of nothing is 0", "[sequence_balance]") {
  CHECK(BalanceCase(0, 3, 1).loss(SequenceBalance(1)) == 0);
  BalanceCase c = test::random_balance_case(4, 3, 1, 1);
  c.active.fill(false);
  CHECK(c.loss(SequenceBalance(1)) == 0);
  for (const double g : c.gradients(SequenceBalance(1)).probability) CHECK(g == 0);
  BalanceCase unchosen = test::random_balance_case(4, 3, 1, 1);
  unchosen.chosen_count.assign(4, 0);
  CHECK(unchosen.loss(SequenceBalance(1)) == 0);
}
