// Balanced assignments of the greatest sum, exactly: the Hungarian method (Kuhn 1955, Munkres 1957, with
// potentials) over one column for every place. What the auction is compared with, by tests and benchmarks.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace test {

/// The column of every row, all different, with the least sum of cost[row][column]; no more rows than
/// columns.
inline std::vector<std::size_t> least_cost_columns(const std::vector<std::vector<double>>& cost) {
  const std::size_t n = cost.size(), m = n == 0 ? 0 : cost[0].size();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  // Row and column 0 are none. held[j]: the row that has column j.
  std::vector<double> row_price(n + 1, 0), column_price(m + 1, 0);
  std::vector<std::size_t> held(m + 1, 0), before(m + 1, 0);
  for (std::size_t row = 1; row <= n; ++row) {
    std::vector<double> slack(m + 1, kInfinity);
    std::vector<bool> reached(m + 1, false);
    std::size_t column = 0;
    held[0] = row;
    while (held[column] != 0) {  // the shortest path from `row` to a free column
      reached[column] = true;
      const std::size_t i = held[column];
      std::size_t nearest = 0;
      double least = kInfinity;
      for (std::size_t j = 1; j <= m; ++j) {
        if (reached[j]) continue;
        const double reduced = cost[i - 1][j - 1] - row_price[i] - column_price[j];
        if (reduced < slack[j]) slack[j] = reduced, before[j] = column;
        if (slack[j] < least) least = slack[j], nearest = j;
      }
      for (std::size_t j = 0; j <= m; ++j) {
        if (reached[j]) {
          row_price[held[j]] += least, column_price[j] -= least;
        } else {
          slack[j] -= least;
        }
      }
      column = nearest;
    }
    for (; column != 0; column = before[column]) held[column] = held[before[column]];
  }
  std::vector<std::size_t> of(n, 0);
  for (std::size_t j = 1; j <= m; ++j) {
    if (held[j] != 0) of[held[j] - 1] = j - 1;
  }
  return of;
}

/// The output of every row: floor(R / M) or ceil(R / M) rows for each of the M outputs that are open (not
/// -inf) to some row, the greatest sum of values; where masks leave none, rows off their shares as few as can
/// be, and each at its best output.
inline std::vector<std::size_t> exact_assignment(const std::vector<std::vector<double>>& value) {
  const std::size_t rows = value.size();
  if (rows == 0) return {};
  std::vector<std::size_t> open;
  double low = 0, high = 0;
  for (std::size_t e = 0; e < value[0].size(); ++e) {
    bool some = false;
    for (const auto& row : value) {
      if (row[e] == -std::numeric_limits<double>::infinity()) continue;
      low = some || !open.empty() ? std::min(low, row[e]) : row[e];
      high = some || !open.empty() ? std::max(high, row[e]) : row[e];
      some = true;
    }
    if (some) open.push_back(e);
  }
  const std::size_t m = open.size(), each = rows / m, rest = rows % m;
  // Rows that do not exist fill the places that need not be filled; they may have no others.
  const double closed = (static_cast<double>(rows) + 1) * (high - low + 1);
  const std::size_t missing = rest == 0 ? 0 : m - rest;
  std::vector<std::vector<double>> cost(rows + missing);
  for (std::size_t r = 0; r < cost.size(); ++r) {
    for (std::size_t j = 0; j < m * each + (rest > 0 ? m : 0); ++j) {
      const std::size_t e = open[j < m * each ? j / each : j - m * each];
      if (r >= rows) {
        cost[r].push_back(j < m * each ? closed * (static_cast<double>(rows) + 1) : 0);
      } else {
        cost[r].push_back(std::isfinite(value[r][e]) ? high - value[r][e] : closed);
      }
    }
  }
  const auto column = least_cost_columns(cost);
  std::vector<std::size_t> of(rows);
  for (std::size_t r = 0; r < rows; ++r) {
    of[r] = open[column[r] < m * each ? column[r] / each : column[r] - m * each];
    if (std::isfinite(value[r][of[r]])) continue;
    of[r] = static_cast<std::size_t>(std::max_element(value[r].begin(), value[r].end()) - value[r].begin());
  }
  return of;
}

/// Sum of the rows' values at their outputs.
inline double assignment_value(const std::vector<std::vector<double>>& value,
                               const std::vector<std::size_t>& of) {
  double sum = 0;
  for (std::size_t r = 0; r < of.size(); ++r) sum += value[r][of[r]];
  return sum;
}

}  // namespace test
