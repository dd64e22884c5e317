#include "moe/analysis/oracle_path.hpp"

#include <cmath>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "support/catch.hpp"

namespace {

using moe::Index;

/// A loss for every path, drawn.
class DrawnLosses {
 public:
  DrawnLosses(Index layers, Index choices, std::uint64_t seed) : choices_(choices) {
    std::mt19937_64 random(seed);
    std::size_t paths = 1;
    for (Index l = 0; l < layers; ++l) paths *= static_cast<std::size_t>(choices);
    for (std::size_t i = 0; i < paths; ++i) loss_.push_back(static_cast<double>(random() % 1000));
  }
  double operator()(std::span<const Index> path) const {
    std::size_t at = 0;
    for (const Index way : path) at = at * static_cast<std::size_t>(choices_) + static_cast<std::size_t>(way);
    return loss_[at];
  }

 private:
  Index choices_;
  std::vector<double> loss_;
};

/// f(path) for all paths, by recursion.
template <class F>
void every_path(Index layers, Index choices, std::vector<Index>& path, const F& f) {
  if (static_cast<Index>(path.size()) == layers) return f(path);
  for (Index way = 0; way < choices; ++way) {
    path.push_back(way);
    every_path(layers, choices, path, f);
    path.pop_back();
  }
}

}  // namespace

TEST_CASE("the oracle's loss is at most that of every path, by enumeration, within any budget",
          "[oracle_path]") {
  const double cost[] = {4, 1, 0};
  for (Index layers = 1; layers <= 4; ++layers) {
    const DrawnLosses losses(layers, 3, static_cast<std::uint64_t>(layers));
    for (const double budget : {0.0, 1.0, 4.0, 6.5, 1e9}) {
      const moe::OraclePath best = moe::oracle_path({layers, 3, cost, budget}, losses);
      CHECK(losses(best.choice) == best.loss);
      Index within = 0;
      bool reached = false;
      std::vector<Index> path;
      every_path(layers, 3, path, [&](const std::vector<Index>& p) {
        double spent = 0;
        for (const Index way : p) spent += cost[way];
        if (spent > budget) return;
        ++within;
        CHECK(best.loss <= losses(p));
        if (losses(p) == best.loss) CHECK(best.cost <= spent);
        reached = reached || (p == best.choice && spent == best.cost);
      });
      CHECK(reached);
      CHECK(best.tried == within);
    }
    // More budget is never worse.
    CHECK(moe::oracle_path({layers, 3, cost, 8}, losses).loss <=
          moe::oracle_path({layers, 3, cost, 4}, losses).loss);
  }
}

TEST_CASE("no policy beats the oracle: the same way in all layers, greedy by layer, and chance",
          "[oracle_path]") {
  std::mt19937_64 random(7);
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const DrawnLosses losses(4, 3, seed);
    const double oracle = moe::oracle_path({.layers = 4, .choices = 3}, losses).loss;
    std::vector<Index> greedy(4, 2);
    for (std::size_t l = 0; l < 4; ++l) {
      std::vector<Index> tried = greedy;
      for (Index way = 0; way < 3; ++way) {
        tried[l] = way;
        if (losses(tried) < losses(greedy)) greedy[l] = way;
      }
    }
    CHECK(oracle <= losses(greedy));
    for (Index way = 0; way < 3; ++way) CHECK(oracle <= losses(std::vector<Index>(4, way)));
    for (int i = 0; i < 20; ++i) {
      std::vector<Index> chance;
      for (int l = 0; l < 4; ++l) chance.push_back(static_cast<Index>(random() % 3));
      CHECK(oracle <= losses(chance));
    }
  }
}

TEST_CASE("of equal losses the cheapest path is taken, then the first", "[oracle_path]") {
  const double cost[] = {2, 1, 1};
  const moe::OraclePath best = moe::oracle_path({3, 3, cost}, [](std::span<const Index>) { return 5.0; });
  CHECK(best.choice == std::vector<Index>{1, 1, 1});
  CHECK(best.cost == 3);
  CHECK(best.tried == 27);
}

TEST_CASE("rows one after the other: each is best given the paths of those before it", "[oracle_path]") {
  const auto loss = [](Index t, const moe::ConstMatrixView<Index>& before, std::span<const Index> path) {
    CHECK(before.rows == t);
    double sum = 0;
    for (Index l = 0; l < 2; ++l) {
      // Away from the last row's way, and near to t.
      const Index last = t == 0 ? 0 : before(t - 1, l);
      const auto way = path[static_cast<std::size_t>(l)];
      sum += (way == last ? 10.0 : 0.0) + std::abs(static_cast<double>(way - t));
    }
    return sum;
  };
  const moe::OraclePaths all = moe::oracle_paths(4, {.layers = 2, .choices = 3}, loss);
  CHECK(all.choice == std::vector<Index>{1, 1, 0, 0, 2, 2, 1, 1});
  CHECK(all.loss == std::vector<double>{2, 2, 0, 4});
  CHECK(all.share(0, 1) == 0.5);
  CHECK(all.share(1, 2) == 0.25);
  CHECK(moe::oracle_paths(0, {.layers = 2, .choices = 3}, loss).rows() == 0);
  CHECK_THROWS_AS(all.share(2, 0), moe::config_error);
}

TEST_CASE("oracle paths refuse what makes no path", "[oracle_path]") {
  const auto zero = [](std::span<const Index>) { return 0.0; };
  const auto nan = [](std::span<const Index>) { return std::nan(""); };
  const double cost[] = {1, 2}, negative[] = {1, -1},
               infinite[] = {1, std::numeric_limits<double>::infinity()};
  CHECK_THROWS_AS(moe::oracle_path({.layers = 0, .choices = 2}, zero), moe::config_error);
  CHECK_THROWS_AS(moe::oracle_path({.layers = 2, .choices = 0}, zero), moe::config_error);
  CHECK_THROWS_AS(moe::oracle_path({.layers = 64, .choices = 2}, zero), moe::size_error);
  CHECK_THROWS_AS(moe::oracle_path({2, 3, cost}, zero), moe::shape_error);
  CHECK_THROWS_AS(moe::oracle_path({2, 2, negative}, zero), moe::config_error);
  CHECK_THROWS_AS(moe::oracle_path({2, 2, infinite}, zero), moe::config_error);
  CHECK_THROWS_AS(moe::oracle_path({2, 2, cost, 1.5}, zero), moe::config_error);
  CHECK_THROWS_AS(moe::oracle_path({2, 2, cost, std::nan("")}, zero), moe::config_error);
  CHECK_THROWS_AS(moe::oracle_path({.layers = 2, .choices = 2}, nan), moe::numeric_error);
  const auto no_row = [](Index, const moe::ConstMatrixView<Index>&, std::span<const Index>) { return 0.0; };
  CHECK_THROWS_AS(moe::oracle_paths(-1, {.layers = 2, .choices = 2}, no_row), moe::config_error);
}
