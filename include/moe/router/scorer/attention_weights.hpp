// Rows weigh each other as the caller's attention does: attention-aware routing, Nguyen et al. 2505.00792.
#pragma once

#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/scorer/row_mixer.hpp"

MOE_NAMESPACE_BEGIN

/// RowWeights S_tj = mixing(t, j - begin of the segment), as the call has them: a row's weights may have any
/// sum, and rows that take no part are left out of it. No gradient goes to the column.
template <class RealType>
class AttentionWeights {
 public:
  using Real = RealType;
  static constexpr const char* kName = "attention_rows";
  struct Tape {};

  /// Throws config_error without the column `mixing` (core/input.hpp), shape_error for other rows or fewer
  /// columns than the longest segment has rows, numeric_error for a weight that is negative or not finite.
  void check_call(const RouterInput<Real>& in) const {
    const Index tokens = in.tokens();
    if (tokens == 0) return;
    if (!in.mixing) {
      fail<config_error>("mixing: expected the weights of every row for the rows of its segment, got none");
    }
    require_extent("mixing", "rows", tokens, in.mixing.rows);
    for (Index s = 0; s < in.segments.count(tokens); ++s) {
      const Index begin = in.segments.begin(s), end = in.segments.end(s, tokens);
      if (in.mixing.cols < end - begin) {
        fail<shape_error>("mixing: expected at least ", end - begin, " columns (rows of a segment), got ",
                          in.mixing.cols);
      }
      for (Index t = begin; t < end; ++t) {
        for (Index j = begin; in.takes_part(t) && j < end; ++j) {
          const Real w = in.mixing(t, j - begin);
          if (in.takes_part(j) && !(w >= 0 && is_finite(w))) {
            fail<numeric_error>("mixing: expected finite weights >= 0, got ", w, " of token ", t,
                                " for token ", j);
          }
        }
      }
    }
  }

  void measure(Arena&, Index, Index) const noexcept {}
  void measure_backward(Arena&, Index, Index) const noexcept {}

  struct Rows {
    const RouterInput<Real>& in;
    MixedRows rows;
    Real one(Index t, Index j) const noexcept {
      return rows.open[j] ? in.mixing(t, j - rows.begin[t]) : Real{0};
    }
    void row(Index t, Real* s) const noexcept {
      for (Index j = rows.begin[t]; j < rows.end[t]; ++j) s[j - rows.begin[t]] = one(t, j);
    }
  };

  template <Executor X>
  Rows forward(const RouterInput<Real>& in, const MixedRows& rows, Tape*, Arena&, X&) const {
    return {in, rows};
  }
  Rows again(const RouterInput<Real>& in, const MixedRows& rows, const Tape&) const { return {in, rows}; }
  template <class DS, class Gradients, Executor X>
  void backward(const RouterInput<Real>&, const MixedRows&, const bool*, const Rows&, const DS&,
                const MatrixView<Real>&, Gradients*, Arena&, X&) const {}
};

MOE_NAMESPACE_END
