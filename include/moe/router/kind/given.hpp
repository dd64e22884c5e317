// Routes decided elsewhere: ids and weights per token, handed in by the caller.
#pragma once

#include "moe/core/check.hpp"
#include "moe/core/view.hpp"
#include "moe/router/call_options.hpp"
#include "moe/router/concept.hpp"

MOE_NAMESPACE_BEGIN

/// Borrows ids [T, K] and weights [T, K]; for one call of T rows. Stage 2 checks every id and weight:
/// route_error for an id outside [0, E) or twice in a row, numeric_error for a weight that is not finite.
template <class RealType>
class GivenRoutes {
 public:
  static constexpr const char* kName = "given";
  using Real = RealType;

  static constexpr Coupling coupling(bool) noexcept { return Coupling::row_independent; }

  /// Throws shape_error unless ids and weights have one shape.
  GivenRoutes(ConstMatrixView<ExpertId> ids, ConstMatrixView<Real> weights, Index experts)
      : ids_(ids), weights_(weights), experts_(experts) {
    require_range("experts", experts, 1, INT32_MAX);
    require_shape("weights", weights, ids.rows, ids.cols);
  }

  Index experts() const noexcept { return experts_; }
  Index width() const noexcept { return 0; }
  Index max_pairs(const CallShape& shape) const {
    return checked_product("routed pairs", shape.tokens, ids_.cols);
  }

  template <Executor X>
  void route(const RouterInput<Real>& in, RouteTable<Real>& table, Arena&, X&) const {
    require_extent("expert ids", "rows", in.tokens(), ids_.rows);
    if (in.options.experts_per_token != 0 && in.options.experts_per_token != ids_.cols) {
      fail<config_error>("experts per token: expected ", ids_.cols, " (columns of the given ids), got ",
                         in.options.experts_per_token);
    }
    impl::refuse_score_options(in.options, "given routes");
    for (Index t = 0; t < in.tokens(); ++t) {
      table.begin_token(t);
      for (Index k = 0; in.takes_part(t) && k < ids_.cols; ++k) table.push(t, ids_(t, k), weights_(t, k));
    }
  }

 private:
  ConstMatrixView<ExpertId> ids_;
  ConstMatrixView<Real> weights_;
  Index experts_;
};

MOE_NAMESPACE_END
