#include "moe/router/selection/plackett_luce.hpp"

#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "moe/core/random.hpp"
#include "moe/router/selection/top_k.hpp"
#include "support/one_row.hpp"
#include "support/plain_routing.hpp"

using moe::ExpertId;
using moe::Index;
using test::near;
using Ids = std::vector<ExpertId>;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Rows {
  moe::RouterInput<double> in;
  explicit Rows(bool training = true, std::uint64_t call = 1) {
    in.training = training;
    in.draws = moe::DrawKey{3, call};
  }
  Ids select(const moe::PlackettLuce& selection, std::vector<double> logit, std::uint64_t key = 0) {
    in.row_key = {&key, 1};
    const auto n = static_cast<Index>(logit.size());
    std::vector<double> choice(logit.size(), 99);
    Ids ids(logit.size(), -7);
    ids.resize(static_cast<std::size_t>(
        selection.select(test::one_row<double>(in, logit.data(), nullptr, n), choice.data(), ids.data())));
    return ids;
  }
};

}  // namespace

TEST_CASE("draws come as often as their probability says", "[router]") {
  STATIC_REQUIRE(moe::SampledSelection<moe::PlackettLuce, float>);
  STATIC_REQUIRE(!moe::SampledSelection<moe::TopKSelection, float>);
  const std::vector<double> logit{0.4, -0.5, 1};
  const moe::PlackettLuce selection({.k = 2});
  std::map<Ids, double> count;
  Rows rows;
  constexpr int kDraws = 20000;
  for (std::uint64_t key = 0; key < kDraws; ++key) ++count[rows.select(selection, logit, key)];
  CHECK(count.size() == 6);
  const auto row = test::one_row<double>(logit.data(), nullptr, 3);
  for (const auto& [ids, n] : count) {
    const double q = std::exp(selection.log_probability(row, {ids.data(), 2}));
    // Five standard deviations.
    CHECK(std::abs(n / kDraws - q) < 5 * std::sqrt(q * (1 - q) / kDraws));
  }
}

TEST_CASE("draws are keyed by row and call; inference takes the highest logits", "[router]") {
  const std::vector<double> logit{0.4, -0.5, 1, 0.4};
  const moe::PlackettLuce selection({.k = 3});
  Rows first, again, other(true, 2), greedy(false);
  int differ = 0;
  for (std::uint64_t key = 0; key < 40; ++key) {
    CHECK(first.select(selection, logit, key) == again.select(selection, logit, key));
    differ += first.select(selection, logit, key) != other.select(selection, logit, key) ? 1 : 0;
    CHECK(greedy.select(selection, logit, key) == Ids{2, 0, 3});
  }
  CHECK(differ > 10);
}

TEST_CASE("masked outputs are never drawn, and have no part in ln Q", "[router]") {
  const std::vector<double> logit{-kInfinity, 0, -kInfinity, 0};
  const moe::PlackettLuce selection({.k = 3});
  Rows rows;
  for (std::uint64_t key = 0; key < 40; ++key) {
    const Ids ids = rows.select(selection, logit, key);
    CHECK((ids == Ids{1, 3} || ids == Ids{3, 1}));
    CHECK(near(selection.log_probability(test::one_row<double>(logit.data(), nullptr, 4), {ids.data(), 2}),
               std::log(0.5)));
    test::Vector g(4, 0);
    selection.log_probability_backward(test::one_row<double>(logit.data(), nullptr, 4), {ids.data(), 2}, 1,
                                       g.data());
    CHECK((g[0] == 0 && g[2] == 0 && near(g[static_cast<std::size_t>(ids[0])], 0.5)));
  }
}

TEST_CASE("options of sampled choices are checked", "[router]") {
  CHECK_THROWS_AS(moe::PlackettLuce({.k = 0}), moe::config_error);
  const moe::PlackettLuce selection({.k = 2});
  CHECK(selection.most({}, 3) == 2);
  CHECK(selection.most({.experts_per_token = 3}, 3) == 3);
  CHECK_THROWS_AS(selection.most({}, 1), moe::config_error);
  CHECK_THROWS_AS(selection.most({.threshold = 0.1}, 3), moe::config_error);
  CHECK_THROWS_AS(selection.most({.p = 0.1}, 3), moe::config_error);
  CHECK_THROWS_AS(selection.most({.capacity_factor = 1}, 3), moe::config_error);
  moe::RouterInput<double> in;
  CHECK_NOTHROW(selection.check_call(in));
  in.training = true;
  CHECK_THROWS_AS(selection.check_call(in), moe::config_error);
}
