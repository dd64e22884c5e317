#include "moe/router/selection/sparse_mixer.hpp"

#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "moe/core/random.hpp"
#include "support/one_row.hpp"
#include "support/plain_routing.hpp"

using moe::ExpertId;
using moe::Index;
using test::near;
using Ids = std::vector<ExpertId>;

namespace {

Ids select(const moe::SparseMixerSelection& selection, const std::vector<double>& logit, std::uint64_t key,
           bool training = true) {
  moe::RouterInput<double> in;
  in.training = training;
  in.draws = moe::DrawKey{3, 1};
  in.row_key = {&key, 1};
  std::vector<double> choice(logit.size(), 99);
  Ids ids(logit.size(), -7);
  ids.resize(static_cast<std::size_t>(
      selection.select(test::one_row<double>(in, logit.data(), nullptr, static_cast<Index>(logit.size())),
                       choice.data(), ids.data())));
  return ids;
}

}  // namespace

TEST_CASE("only logits near the best of what is left are drawn, as often as ln Q says", "[router]") {
  // 2 eps = 0.4. Near 2: 2, 1.6, 1.3. Without 2 near 1.6: 1.6, 1.3, 1; without 1.6 near 2: 2 and 1.3.
  const std::vector<double> logit{1.6, 2, 1, 1.3};
  const moe::SparseMixerSelection selection({.k = 2, .eps = 0.2});
  std::map<Ids, double> count;
  constexpr int kDraws = 20000;
  for (std::uint64_t key = 0; key < kDraws; ++key) ++count[select(selection, logit, key)];
  const auto row = test::one_row<double>(logit.data(), nullptr, 4);
  double sum = 0;
  for (const auto& [ids, n] : count) {
    CHECK(ids[0] != 2);
    if (ids[0] != 1) CHECK(ids[1] != 2);
    const double q = std::exp(selection.log_probability(row, {ids.data(), 2}));
    sum += q;
    CHECK(std::abs(n / kDraws - q) < 5 * std::sqrt(q * (1 - q) / kDraws));
  }
  CHECK(count.size() == 7);
  CHECK(near(sum, 1));
  const Ids ids{1, 2};
  const double of_first = std::exp(2) / (std::exp(2) + std::exp(1.6) + std::exp(1.3));
  const double of_second = std::exp(1) / (std::exp(1) + std::exp(1.6) + std::exp(1.3));
  CHECK(near(selection.log_probability(row, {ids.data(), 2}), std::log(of_first * of_second)));
  test::Vector g(4, 0);
  selection.log_probability_backward(row, {ids.data(), 2}, 1, g.data());
  CHECK(near(g[1], 1 - of_first));
  CHECK(near(g[2], 1 - of_second));
}

TEST_CASE("slots of one row draw apart; eps = 0 and inference take the best", "[router]") {
  const std::vector<double> equal(6, 1.0), logit{0.5, 2, 1, 1.9};
  const moe::SparseMixerSelection three({.k = 3, .eps = 0.5});
  std::map<ExpertId, int> second;
  for (std::uint64_t key = 0; key < 400; ++key) {
    const Ids ids = select(three, equal, key);
    if (ids[0] == 0) ++second[ids[1]];
    CHECK(select(three, logit, key, false) == Ids{1, 3, 2});
    CHECK(select(moe::SparseMixerSelection({.k = 3, .eps = 0}), logit, key) == Ids{1, 3, 2});
  }
  CHECK(second.size() == 5);
}

TEST_CASE("a row runs out of open outputs; options are checked", "[router]") {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  CHECK(select(moe::SparseMixerSelection({.k = 2}), {-kInfinity, 1, -kInfinity}, 3) == Ids{1});
  CHECK_THROWS_AS(moe::SparseMixerSelection({.k = 0}), moe::config_error);
  for (const double eps : {-0.1, kInfinity, std::nan("")})
    CHECK_THROWS_AS(moe::SparseMixerSelection({.eps = eps}), moe::config_error);
  const moe::SparseMixerSelection selection({.k = 2});
  CHECK(selection.most({}, 3) == 2);
  CHECK_THROWS_AS(selection.most({.threshold = 0.1}, 3), moe::config_error);
  moe::RouterInput<double> in;
  in.training = true;
  CHECK_THROWS_AS(selection.check_call(in), moe::config_error);
}
