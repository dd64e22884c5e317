// The best path through layers that each have a few ways to go (a big expert, a small one, none), by trying
// all: what no router can beat. Duo-LLM, 2410.10846.
#pragma once

#include <cmath>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/kernel/finite.hpp"

MOE_NAMESPACE_BEGIN

struct OraclePathOptions {
  Index layers = 0;                // L
  Index choices = 0;               // M: a path is L numbers in [0, M)
  std::span<const double> cost{};  // [M] of a choice, >= 0, the same in every layer; empty: 0
  double budget =
      std::numeric_limits<double>::infinity();  // the most that a path may cost, the sum of its choices'
};

struct OraclePath {
  std::vector<Index> choice;  // [L]
  double loss = 0;
  double cost = 0;
  Index tried = 0;  // paths within the budget
};

/// Of every row, the best path given those of the rows before it.
struct OraclePaths {
  Index layers = 0;
  std::vector<Index> choice;  // [T, L]
  std::vector<double> loss;   // [T]
  std::vector<double> cost;   // [T]

  Index rows() const noexcept { return static_cast<Index>(loss.size()); }
  /// [rows, L].
  ConstMatrixView<Index> paths() const { return {choice.data(), rows(), layers}; }
  /// The part of the rows that go by `way` in `layer`; 0 of no rows.
  double share(Index layer, Index way) const {
    require_range("layer", layer, 0, layers - 1);
    Index count = 0;
    for (Index t = 0; t < rows(); ++t)
      count += choice[static_cast<std::size_t>(t * layers + layer)] == way ? 1 : 0;
    return rows() == 0 ? 0.0 : static_cast<double>(count) / static_cast<double>(rows());
  }
};

namespace impl {

inline void check_oracle_options(const OraclePathOptions& o) {
  require_range("layers", o.layers, 1, INT32_MAX);
  require_range("choices", o.choices, 1, INT32_MAX);
  if (!o.cost.empty()) require_extent("cost", "entries", o.choices, static_cast<Index>(o.cost.size()));
  for (const double cost : o.cost) {
    if (!(cost >= 0 && is_finite(cost))) fail<config_error>("cost: expected finite values >= 0, got ", cost);
  }
  if (!(o.budget >= 0)) fail<config_error>("budget: expected a value >= 0, got ", o.budget);
}
inline void check_oracle(const OraclePathOptions& o) {
  check_oracle_options(o);
  Index paths = 1;
  require_range("layers", o.layers, 1, 64);
  for (Index l = 0; l < o.layers; ++l) paths = checked_product("oracle paths", paths, o.choices);
}

}  // namespace impl

/// The path within the budget whose loss(std::span<const Index> path) is least; of equal losses the cheapest,
/// then the first in lexicographic order. M^L calls at most. Throws config_error for options out of their
/// range and a budget that no path keeps, size_error for more paths than Index counts, numeric_error for a
/// loss that is NaN.
template <class Loss>
OraclePath oracle_path(const OraclePathOptions& options, Loss&& loss) {
  impl::check_oracle(options);
  OraclePath best;
  std::vector<Index> path(static_cast<std::size_t>(options.layers));
  for (bool more = true; more;) {
    double cost = 0;
    for (const Index way : path)
      cost += options.cost.empty() ? 0.0 : options.cost[static_cast<std::size_t>(way)];
    if (cost <= options.budget) {
      const double value = loss(std::span<const Index>(path));
      if (is_nan(value)) fail<numeric_error>("oracle path: expected a loss, got NaN for path ", best.tried);
      if (best.tried++ == 0 || value < best.loss || (value == best.loss && cost < best.cost)) {
        best.choice = path;
        best.loss = value;
        best.cost = cost;
      }
    }
    // The next one: the last layer turns fastest.
    Index l = options.layers - 1;
    while (l >= 0 && ++path[static_cast<std::size_t>(l)] == options.choices)
      path[static_cast<std::size_t>(l--)] = 0;
    more = l >= 0;
  }
  if (best.tried == 0) fail<config_error>("budget: expected one that some path keeps, got ", options.budget);
  return best;
}

/// The same for rows one after the other, as tokens of a sequence: loss(t, paths, path) is of row t when the
/// rows before it go by `paths` [t, L], which are chosen already, and row t by `path`. T M^L calls at most.
template <class Loss>
OraclePaths oracle_paths(Index rows, const OraclePathOptions& options, Loss&& loss) {
  require_range("rows", rows, 0, PTRDIFF_MAX);
  impl::check_oracle(options);
  OraclePaths all;
  all.layers = options.layers;
  for (Index t = 0; t < rows; ++t) {
    const ConstMatrixView<Index> before = all.paths();
    const OraclePath best =
        oracle_path(options, [&](std::span<const Index> path) { return loss(t, before, path); });
    all.choice.insert(all.choice.end(), best.choice.begin(), best.choice.end());
    all.loss.push_back(best.loss);
    all.cost.push_back(best.cost);
  }
  return all;
}

MOE_NAMESPACE_END
