#include "moe/analysis/search_path.hpp"

#include <cmath>
#include <limits>
#include <set>
#include <span>
#include <vector>

#include "support/catch.hpp"

using moe::Index;

namespace {

using Path = std::span<const Index>;

/// Something without structure, the same for the same path.
double scrambled(Path path) {
  double sum = 0;
  for (std::size_t l = 0; l < path.size(); ++l)
    sum = std::sin(7 * sum + static_cast<double>(3 * path[l]) + 1);
  return sum;
}
constexpr double kCost[] = {0, 1, 2};

}  // namespace

TEST_CASE("with simulations enough a search finds the oracle's path, and tries none of the last ones twice",
          "[analysis]") {
  for (const double budget : {std::numeric_limits<double>::infinity(), 3.0}) {
    const moe::OraclePathOptions path{.layers = 4, .choices = 3, .cost = kCost, .budget = budget};
    const moe::OraclePath best = moe::oracle_path(path, scrambled);
    std::set<std::vector<Index>> tried;
    const moe::OraclePath found = moe::search_path({.path = path, .simulations = 1000}, [&](Path p) {
      double cost = 0;
      for (const Index c : p) cost += kCost[c];
      CHECK(cost <= budget);
      tried.emplace(p.begin(), p.end());
      return scrambled(p);
    });
    CHECK(found.choice == best.choice);
    CHECK(found.loss == best.loss);
    CHECK(found.cost == best.cost);
    CHECK(static_cast<Index>(tried.size()) == best.tried);
    CHECK(found.tried < 1000);  // then there was nothing left
  }
}

TEST_CASE("where choices matter one by one, few of many paths lead to the best; the same seed, the same way",
          "[analysis]") {
  constexpr Index kLayers = 8;
  const auto off = [](Path p) {
    double wrong = 0;
    for (std::size_t l = 0; l < p.size(); ++l) wrong += p[l] == static_cast<Index>((2 * l + 1) % 3) ? 0 : 1;
    return wrong;
  };
  const moe::SearchPathOptions options{
      .path = {.layers = kLayers, .choices = 3}, .simulations = 1500, .explore = 0.3, .seed = 4};
  const moe::OraclePath found = moe::search_path(options, off);  // of 6561
  CHECK(found.loss == 0);
  CHECK(moe::search_path(options, off).choice == found.choice);
  CHECK(moe::search_path({.path = {.layers = 40, .choices = 3}, .simulations = 50}, off).tried == 50);
}

TEST_CASE("costs draw the search to paths that execute less", "[analysis]") {
  const auto flat = [](Path) { return 1.0; };
  const moe::SearchPathOptions options{
      .path = {.layers = 3, .choices = 3, .cost = kCost}, .simulations = 100, .cost_weight = 0.1};
  const moe::OraclePath found = moe::search_path(options, flat);
  CHECK(found.choice == std::vector<Index>{0, 0, 0});
  CHECK((found.cost == 0 && found.loss == 1));
}

TEST_CASE("what a search refuses", "[analysis]") {
  const auto flat = [](Path) { return 1.0; };
  const auto refuses = [&](const moe::SearchPathOptions& o) {
    CHECK_THROWS_AS(moe::search_path(o, flat), moe::config_error);
  };
  constexpr double kDear[] = {1, 2};
  const moe::OraclePathOptions path{.layers = 2, .choices = 2, .cost = kDear};
  refuses({.path = {.layers = 0, .choices = 2}});
  refuses({.path = {.layers = 2, .choices = 0}});
  refuses({.path = {.layers = 2, .choices = 2, .cost = kDear, .budget = 1.5}});
  refuses({.path = path, .simulations = 0});
  refuses({.path = path, .cost_weight = -1});
  refuses({.path = path, .explore = std::nan("")});
  CHECK_THROWS_AS(moe::search_path({.path = path}, [](Path) { return std::nan(""); }), moe::numeric_error);
}
