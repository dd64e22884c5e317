#include "moe/router/weighting/sparse_mixer.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "moe/core/random.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/identity.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/concept.hpp"
#include "support/one_row.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::ExpertId;
using moe::Index;
using moe::SparseMixerWeighting;
using Row = std::vector<double>;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// The released code in its own words: two masked softmaxes, the first choice masked out of the second.
std::vector<double> released(const Row& h, const std::vector<ExpertId>& ids, double eps) {
  std::vector<double> weights;
  Row left = h;
  for (const ExpertId id : ids) {
    const auto own = static_cast<std::size_t>(id);
    const double top = h[own];
    double sum = 0;
    for (std::size_t e = 0; e < h.size(); ++e) {
      const double factor = std::max(std::abs(h[e]), top);
      if ((top - h[e]) / factor > 2 * eps) continue;
      sum += std::exp(left[e] - top);
    }
    weights.push_back(1 / sum);
    left[own] = -kInfinity;
  }
  return weights;
}

Row weights(const SparseMixerWeighting& w, const std::vector<ExpertId>& ids, const Row& score) {
  moe::Chosen chosen;
  chosen.id = ids.data();
  chosen.count = static_cast<Index>(ids.size());
  Row weight(ids.size(), 77);
  bool keep[8] = {};
  w.forward(test::one_row<double>(nullptr, score.data(), static_cast<Index>(score.size())), chosen,
            weight.data(), keep);
  for (std::size_t i = 0; i < ids.size(); ++i) CHECK(keep[i]);
  return weight;
}

using Mixer =
    moe::TokenChoice<moe::LinearScorer<double>, moe::IdentityScore, moe::TopKSelection, SparseMixerWeighting>;

Mixer mixer(Index width, Index experts, double eps) {
  return {moe::LinearScorer<double>({.width = width, .outputs = experts}), moe::IdentityScore{},
          moe::TopKSelection(2), SparseMixerWeighting({.eps = eps})};
}

}  // namespace

TEST_CASE("sparse mixer weights by hand", "[sparse_mixer]") {
  STATIC_REQUIRE(moe::Weighting<SparseMixerWeighting>);
  // 2 eps = 0.1: within 10 % of the larger magnitude counts.
  const SparseMixerWeighting w({.eps = 0.05});
  const Row h{1.0, 0.95, 0.91, 0.8, -3.0};
  const Row got = weights(w, {0, 1}, h);
  const double first = 1 / (1 + std::exp(-0.05) + std::exp(-0.09));  // 0.8 is 20 % off
  const double second = 1 / (1 + std::exp(-0.04));                   // without the first choice
  CHECK(std::abs(got[0] - first) <= 1e-15);
  CHECK(std::abs(got[1] - second) <= 1e-15);
  CHECK(got[0] + got[1] < 0.99);
  // Far from every other: both weights are 1, their sum 2.
  CHECK(weights(w, {0, 1}, {5, 3, 1, 0, -2}) == Row{1, 1});
}

TEST_CASE("sparse mixer with negative and zero logits", "[sparse_mixer]") {
  const SparseMixerWeighting w({.eps = 0.05});
  // A negative maximum: the factor is |h_e|, never the maximum itself.
  const Row h{-1.0, -1.05, -1.5, -9};
  CHECK(std::abs(weights(w, {0, 1}, h)[0] - 1 / (1 + std::exp(-0.05))) <= 1e-15);
  CHECK(weights(w, {0, 1}, h)[1] == 1);
  // 0 / 0 is not above the threshold: equal zeros count.
  CHECK(weights(w, {0, 1}, {0, 0, -1, -1}) == Row{0.5, 1});
  // A masked expert never counts.
  CHECK(weights(w, {0, 1}, {1, 0.99, -kInfinity, -kInfinity})[1] == 1);
}

TEST_CASE("sparse mixer weights are those of the released code", "[sparse_mixer]") {
  const moe::KeyedRandom draw(4, 0, moe::DrawStream::user);
  for (std::uint64_t i = 0; i < 300; ++i) {
    const Index n = 2 + static_cast<Index>(i % 15);
    Row h;
    for (Index e = 0; e < n; ++e) {
      h.push_back(draw.normal(i, static_cast<std::uint32_t>(e)) - (i % 3 == 0 ? 4 : 0));
    }
    Row choice = h;
    ExpertId ids[2];
    moe::TopKSelection(2).select(test::one_row<double>(h.data(), h.data(), n), choice.data(), ids);
    const double eps = i % 2 == 0 ? 0.01 : 0.2;
    const Row expected = released(h, {ids[0], ids[1]}, eps),
              got = weights(SparseMixerWeighting({.eps = eps}), {ids[0], ids[1]}, h);
    for (std::size_t k = 0; k < 2; ++k) CHECK(std::abs(got[k] - expected[k]) <= 1e-14);
  }
}

TEST_CASE("sparse mixer obeys the laws of routers and matches central differences", "[sparse_mixer]") {
  for (const double eps : {0.01, 0.3}) {
    auto router = mixer(5, 7, eps);
    test::randomise(router, 3);
    test::check_router_laws(router);
    test::check_router_gradients(router, 5, {.step = 1e-4});
  }
}

TEST_CASE("sparse mixer refuses an eps that does not fit", "[sparse_mixer]") {
  for (const double bad : {-0.1, std::nan(""), kInfinity}) {
    CHECK_THROWS_AS(SparseMixerWeighting({.eps = bad}), moe::config_error);
  }
}
