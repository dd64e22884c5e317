// FTP, Li et al. 2412.11494: a trained model's blocks leave out the rows that a router finds unimportant by
// four numbers of each row; how many stay is each block's own share, found by a search.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/core/column.hpp"
#include "moe/core/input.hpp"
#include "moe/core/view.hpp"
#include "moe/depth/depth_layer.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/balance/ratio.hpp"
#include "moe/router/balance/target.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/sigmoid.hpp"
#include "moe/router/scorer/features.hpp"
#include "moe/router/scorer/two_layer.hpp"
#include "moe/router/selection/column_top_k.hpp"
#include "moe/router/weighting/gate.hpp"

MOE_NAMESPACE_BEGIN

/// What the router reads of a row.
inline constexpr Index kTokenFactors = 4;

/// Of every row: its place in the segment / (n - 1); its share of the attention that the segment's rows got
/// in the block before; its rank by that / (n - 1), 0 the most, ties to the lower row; and the share of rows
/// that the block leaves out. The rank looks at all rows of the segment: not causal. `attention` [T], what
/// each row got; out [T, 4]. Throws shape_error for other sizes, numeric_error for attention below 0 or not
/// finite, config_error for a share outside [0, 1].
template <class Real>
void token_factors(const Column<Real>& attention, const Segments& segments, double left_out,
                   const MatrixView<Real>& out) {
  const Index tokens = out.rows;
  require_extent("attention", "entries", tokens, static_cast<Index>(attention.size()));
  require_extent("token factors", "columns", kTokenFactors, out.cols);
  segments.check(tokens);
  if (!(left_out >= 0 && left_out <= 1)) {
    fail<config_error>("share of rows left out: expected a value in [0, 1], got ", left_out);
  }
  for (Index t = 0; t < tokens; ++t) {
    if (!(attention[t] >= 0 && is_finite(attention[t]))) {
      fail<numeric_error>("attention: expected finite values >= 0, got ", attention[t], " for token ", t);
    }
  }
  std::vector<Index> order;
  for (Index s = 0; s < segments.count(tokens); ++s) {
    const Index first = segments.begin(s), n = segments.end(s, tokens) - first;
    const double last = n > 1 ? static_cast<double>(n - 1) : 1.0;
    double sum = 0;
    order.clear();
    for (Index i = 0; i < n; ++i) {
      sum += static_cast<double>(attention[first + i]);
      order.push_back(first + i);
    }
    std::sort(order.begin(), order.end(), [&](Index a, Index b) {
      return attention[a] != attention[b] ? attention[a] > attention[b] : a < b;
    });
    for (Index i = 0; i < n; ++i) {
      out(first + i, 0) = static_cast<Real>(static_cast<double>(i) / last);
      out(first + i, 1) = static_cast<Real>(sum > 0 ? static_cast<double>(attention[first + i]) / sum : 0.0);
      out(order[static_cast<std::size_t>(i)], 2) = static_cast<Real>(static_cast<double>(i) / last);
      out(first + i, 3) = static_cast<Real>(left_out);
    }
  }
}

struct TokenPrunerOptions {
  Index width = 0;         // D
  Index hidden = 16;       // of the router: 4 to this, tanh, to 1
  double keep = 0.5;       // share of a sequence's rows that the block works on
  double coefficient = 1;  // of the guide loss; 0: no targets are needed
  double sparsity = 1;     // coefficient of the loss that holds the scores' mean at `keep`
  NonFinite non_finite = NonFinite::throw_;
};

template <class Real>
using TokenPrunerRouter = TokenChoice<FeatureScorer<TwoLayerScorer<Real>>, SigmoidScore, ColumnTopK,
                                      GateWeighting, Balancing<TargetLoss, RatioLoss>>;
template <class B>
using TokenPruner = DepthLayer<TokenPrunerRouter<typename std::remove_reference_t<B>::Real>, B>;

/// y = x + f(x) for the max(1, round down of keep * rows) rows of a sequence that score highest on the column
/// `features`, token_factors(); y = x for the others. The weight is 1, its derivative by the sigmoid is taken
/// for 1. The guide loss is the cross-entropy with the column `target` [T, 1], what a fixed router would
/// keep; the sparsity loss (mean of the scores - keep)^2. Not causal. Throws config_error for sizes below 1,
/// keep outside (0, 1] or a coefficient that is not finite.
template <class B>
TokenPruner<std::remove_cvref_t<B>> token_pruner(const TokenPrunerOptions& options, B&& block) {
  using Real = typename std::remove_cvref_t<B>::Real;
  require_range("width", options.width, 1, INT32_MAX);
  return {
      TokenPrunerRouter<Real>(
          FeatureScorer<TwoLayerScorer<Real>>(TwoLayerScorer<Real>(
              {.width = kTokenFactors, .hidden = options.hidden, .outputs = 1, .bias = true})),
          SigmoidScore{}, ColumnTopK({.capacity_factor = options.keep, .positive = false}),
          GateWeighting({.straight_through = true, .threshold = 0}),
          Balancing<TargetLoss, RatioLoss>(
              TargetLoss({.coefficient = options.coefficient}),
              RatioLoss({.coefficient = options.sparsity, .target = options.keep, .form = RatioForm::score})),
          options.non_finite),
      std::forward<B>(block)};
}

MOE_NAMESPACE_END
