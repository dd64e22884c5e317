// More experts for rows that matter more: DA-MoE, which takes the attention that a row receives for its
// importance.
#pragma once

#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/top_k.hpp"
#include "moe/router/selection/concept.hpp"

MOE_NAMESPACE_BEGIN

/// The k highest choice scores, k = ceil(importance * k_max) in [1, k_max]: of importances that are spread
/// evenly over (0, 1] (ranks in the sequence) every k is as frequent. The importance of row t is
/// features(t, column); it is the caller's to take it from the row's segment alone (contract C2). K of a call
/// takes the place of k_max.
class ImportanceTopK {
 public:
  static constexpr const char* kName = "importance_top_k";
  struct Options {
    Index k_max = 2;
    Index column = 0;  // of LayerInput::features
  };

  /// Throws config_error for k_max < 1 or column < 0.
  explicit ImportanceTopK(Options options) : options_(options) {
    require_range("most experts per token", options.k_max, 1, INT32_MAX);
    require_range("column of the importance", options.column, 0, INT32_MAX);
  }
  const Options& options() const noexcept { return options_; }

  Index most(const CallOptions& options, Index n) const {
    impl::refuse_all_but_k(options, "the selection ", kName);
    return impl::experts_per_token(options_.k_max, options, n, "the router's outputs");
  }
  /// Throws config_error if the features lack the column, numeric_error for an importance that is NaN.
  template <class Real>
  void check_call(const RouterInput<Real>& in) const {
    if (in.tokens() > 0 && in.features.cols <= options_.column) {
      fail<config_error>("features: expected the importance of every row in column ", options_.column,
                         ", got ", in.features.cols, " columns");
    }
    for (Index t = 0; t < in.tokens(); ++t) {
      if (in.takes_part(t) && is_nan(in.features(t, options_.column))) {
        fail<numeric_error>("features: expected the importance of token ", t, ", got NaN");
      }
    }
  }

  template <class Real>
  Index select(const RowContext<Real>& row, Real* choice, ExpertId* out) const noexcept {
    const Index k_max = row.k() == 0 ? options_.k_max : row.k();
    const double steps =
        static_cast<double>(row.entries(row.call.features)[options_.column]) * static_cast<double>(k_max);
    Index k = 1;
    while (k < k_max && static_cast<double>(k) < steps) ++k;
    top_k_row(choice, row.n, k, out);
    return impl::without_masked(choice, out, k);
  }

 private:
  Options options_;
};

MOE_NAMESPACE_END
