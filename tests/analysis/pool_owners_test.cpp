#include "moe/analysis/pool_owners.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "support/catch.hpp"

using moe::Index;

namespace {

moe::ConstMatrixView<double> view(const std::vector<double>& counts, Index layers) {
  return {counts.data(), layers, static_cast<Index>(counts.size()) / layers};
}
double covered(const std::vector<double>& counts, Index layers, const std::vector<Index>& owner) {
  const auto n = owner.size();
  double sum = 0;
  for (Index l = 0; l < layers; ++l) {
    double own = 0, all = 0;
    for (std::size_t e = 0; e < n; ++e) {
      const double c = counts[static_cast<std::size_t>(l) * n + e];
      all += c;
      own += owner[e] == l ? c : 0;
    }
    sum += all > 0 ? own / all : 0;
  }
  return sum;
}

}  // namespace

TEST_CASE("every layer gets as many experts, with the greatest coverage of all ways, by enumeration",
          "[analysis]") {
  std::mt19937_64 random(5);
  for (int round = 0; round < 12; ++round) {
    const Index layers = round % 2 == 0 ? 3 : 2;
    std::vector<double> counts(static_cast<std::size_t>(6 * layers));
    for (double& c : counts) c = static_cast<double>(random() % 7);
    if (round == 5) std::fill(counts.begin(), counts.begin() + 6, 0.0);  // a layer that chose nobody
    const moe::PoolOwners owners = moe::pool_owners(view(counts, layers));
    std::vector<Index> way;
    for (Index e = 0; e < 6; ++e) way.push_back(e / (6 / layers));
    double best = 0;
    do best = std::max(best, covered(counts, layers, way));
    while (std::next_permutation(way.begin(), way.end()));
    const double got = covered(counts, layers, owners.owner);
    CHECK(std::abs(got - best) <= 1e-12);
    double sum = 0;
    for (Index l = 0; l < layers; ++l) {
      CHECK(std::count(owners.owner.begin(), owners.owner.end(), l) == 6 / layers);
      sum += owners.coverage[static_cast<std::size_t>(l)];
      const std::vector<bool> own = owners.own(l);
      for (std::size_t e = 0; e < 6; ++e) CHECK(own[e] == (owners.owner[e] == l));
    }
    CHECK(std::abs(sum - got) <= 1e-12);
  }
}

TEST_CASE("layers that chose apart keep what they chose; what owners refuse", "[analysis]") {
  const std::vector<double> counts{0, 5, 0, 5, 8, 0, 1, 0};
  const moe::PoolOwners owners = moe::pool_owners(view(counts, 2));
  CHECK(owners.owner == std::vector<Index>{1, 0, 1, 0});
  CHECK(owners.coverage == std::vector<double>{1, 1});
  CHECK_THROWS_AS(moe::pool_owners({counts.data(), 2, 3}), moe::config_error);
  CHECK_THROWS_AS(moe::pool_owners({}), moe::config_error);
  for (const double bad : {-1.0, std::nan("")}) {
    std::vector<double> wrong = counts;
    wrong[3] = bad;
    CHECK_THROWS_AS(moe::pool_owners(view(wrong, 2)), moe::numeric_error);
  }
}
