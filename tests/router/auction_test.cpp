#include "moe/router/auction.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "support/catch.hpp"
#include "support/exact_assignment.hpp"

namespace {

using moe::Index;
using Matrix = std::vector<std::vector<double>>;
using Outputs = std::vector<std::size_t>;
constexpr double kMasked = -std::numeric_limits<double>::infinity();

/// On memory of exactly the measured size.
Outputs auction(const Matrix& value, double tolerance) {
  const auto rows = static_cast<Index>(value.size()), n = static_cast<Index>(value.at(0).size());
  moe::Arena measuring;
  moe::BalancedAuction::measure(measuring, rows, n);
  moe::Workspace workspace;
  moe::Arena arena = workspace.arena(measuring.bytes());
  std::vector<double> flat;
  for (const auto& row : value) flat.insert(flat.end(), row.begin(), row.end());
  std::vector<moe::ExpertId> out(value.size(), -1);
  moe::BalancedAuction(arena, rows, n).run(flat.data(), rows, n, tolerance, out.data());
  Outputs of;
  for (const moe::ExpertId e : out) {
    REQUIRE((e >= 0 && e < n));
    of.push_back(static_cast<std::size_t>(e));
  }
  return of;
}
Outputs loads(const Outputs& of, std::size_t n) {
  Outputs load(n, 0);
  for (const std::size_t e : of) ++load[e];
  return load;
}
/// floor(R / N) or ceil(R / N) each.
void check_balanced(const Outputs& of, std::size_t n) {
  for (const std::size_t load : loads(of, n)) {
    CHECK((load == of.size() / n || load == (of.size() + n - 1) / n));
  }
}
double spread(const Matrix& value) {
  double low = std::numeric_limits<double>::max(), high = -low;
  for (const auto& row : value) {
    for (const double v : row) {
      if (v != kMasked) low = std::min(low, v), high = std::max(high, v);
    }
  }
  return high - low;
}
/// Integers of 0 to `highest`, or real numbers for 0.
Matrix random_values(std::mt19937_64& draw, std::size_t rows, std::size_t n, int highest) {
  Matrix value(rows, std::vector<double>(n));
  for (auto& row : value) {
    for (double& v : row) {
      v = highest > 0 ? std::uniform_int_distribution<int>(0, highest)(draw)
                      : std::normal_distribution<double>(0, 3)(draw);
    }
  }
  return value;
}

}  // namespace

TEST_CASE("the exact solver is the best of all permutations", "[router]") {
  std::mt19937_64 draw(3);
  for (int trial = 0; trial < 40; ++trial) {
    const Matrix cost = random_values(draw, 5, 6, trial % 2 == 0 ? 0 : 4);
    Outputs order{0, 1, 2, 3, 4, 5};
    double least = std::numeric_limits<double>::max();
    do {
      double sum = 0;
      for (std::size_t r = 0; r < 5; ++r) sum += cost[r][order[r]];
      least = std::min(least, sum);
    } while (std::next_permutation(order.begin(), order.end()));
    double found = 0;
    const auto of = test::least_cost_columns(cost);
    for (std::size_t r = 0; r < 5; ++r) found += cost[r][of[r]];
    CHECK(std::abs(found - least) <= 1e-12);
  }
}

TEST_CASE("an auction by hand: equal shares of the greatest sum", "[router]") {
  // All four want output 0; rows 1 and 3 lose least by going to output 1.
  CHECK(auction({{9, 1}, {9, 8}, {9, 2}, {9, 7}}, 1e-3) == Outputs{0, 1, 0, 1});
  check_balanced(auction({{5, 5, 5}, {5, 5, 5}, {5, 5, 5}}, 1e-3), 3);
  CHECK(auction({{-1e308, 1e308}, {-1e308, 9e307}}, 1e-3) == Outputs{1, 0});
  CHECK(auction({{3, kMasked, kMasked}, {1, kMasked, kMasked}}, 1e-3) == Outputs{0, 0});
  CHECK(auction({{7}, {7}}, 1e-3) == Outputs{0, 0});
}

TEST_CASE("an auction's sum is within rows * eps of the greatest, with ties and any remainder", "[router]") {
  std::mt19937_64 draw(7);
  for (int trial = 0; trial < 500; ++trial) {
    INFO("trial " << trial);
    const std::size_t rows = 1 + draw() % 24, n = 1 + draw() % 6;
    const int highest = trial % 4;  // real numbers, and ties of 2, 3 and 4 values
    const Matrix value = random_values(draw, rows, n, highest);
    const double best = test::assignment_value(value, test::exact_assignment(value));
    for (const double tolerance : {0.3, 1e-3, 1e-9}) {
      const Outputs of = auction(value, tolerance);
      check_balanced(of, n);
      const double sum = test::assignment_value(value, of);
      CHECK(sum <= best + 1e-12 * (1 + std::abs(best)));
      CHECK(sum >= best - static_cast<double>(rows) * tolerance * spread(value) - 1e-9);
      // Sums of integers that are less than 1 apart are equal.
      if (highest > 0 && static_cast<double>(rows) * tolerance * spread(value) < 1) CHECK(sum == best);
    }
  }
}

TEST_CASE("masks: never chosen; shares of the open outputs, as far as they go", "[router]") {
  std::mt19937_64 draw(11);
  // Three rows may go to output 0 alone: two of them have its places, the other goes there as well.
  CHECK(auction({{3, kMasked}, {2, kMasked}, {1, 5}, {0, kMasked}}, 1e-3) == Outputs{0, 0, 1, 0});
  for (int trial = 0; trial < 300; ++trial) {
    INFO("trial " << trial);
    const std::size_t rows = 1 + draw() % 16, n = 2 + draw() % 5;
    Matrix value = random_values(draw, rows, n, 0);
    const std::size_t closed = draw() % n;  // to all, in some trials
    for (auto& row : value) {
      const std::size_t open = draw() % n;
      for (std::size_t e = 0; e < n; ++e) {
        if (e != open && (draw() % 2 == 0 || (trial % 3 == 0 && e == closed))) row[e] = kMasked;
      }
    }
    const Outputs of = auction(value, 1e-9), want = test::exact_assignment(value);
    for (std::size_t r = 0; r < rows; ++r) CHECK(value[r][of[r]] != kMasked);
    CHECK(of == want);
  }
}

TEST_CASE("many equal bids end, and many rows are balanced", "[router]") {
  const Matrix equal(600, std::vector<double>(7, 0.25));
  check_balanced(auction(equal, 1e-6), 7);
  std::mt19937_64 draw(5);
  const Matrix crowded = [&] {  // every row wants the same few
    Matrix value = random_values(draw, 500, 16, 0);
    for (auto& row : value) row[0] += 20, row[1] += 10;
    return value;
  }();
  const Outputs of = auction(crowded, 1e-3);
  check_balanced(of, 16);
  CHECK(of == auction(crowded, 1e-3));
}
