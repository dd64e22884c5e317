// Choices made before, made again: the column `replay` of the call says which. R3, Ma et al. 2510.11370.
#pragma once

#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/part_hooks.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/selection/concept.hpp"

MOE_NAMESPACE_BEGIN

/// The experts of the row in the column `replay` (core/input.hpp), in their order, whatever its scores, a
/// selection bias and Inner say; without the column what Inner selects. -1 ends a row, which may have none.
/// Scores are those of the call, so that weights and gradients are: only the choice is old. An output that
/// the scorer itself hides is left out.
template <Selection Inner>
requires(!impl::kHasGradients<Inner>) class Replayed : public impl::InnerHooks<Replayed<Inner>, Inner> {
 public:
  /// Of a router of `outputs` outputs. Throws config_error for less than 1.
  Replayed(Inner inner, Index outputs) : inner_(std::move(inner)), outputs_(outputs) {
    require_range("replayed outputs", outputs, 1, INT32_MAX);
  }

  Inner& inner() noexcept { return inner_; }
  const Inner& inner() const noexcept { return inner_; }
  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    f(role, "replayed");
    impl::visit_names_of(role, inner_, f);
  }

  void check(Index outputs) const {
    if (outputs != outputs_) {
      fail<config_error>("replayed selection: expected a router of ", outputs_, " outputs, got ", outputs);
    }
    impl::check_outputs_of(inner_, outputs);
  }

  Index most(const CallOptions& options, Index n) const { return inner_.most(options, n); }

  /// Throws shape_error for a column of other rows or without entries, route_error for an id that is no
  /// output, comes twice in a row, is masked by the call, or is one more than Inner ever selects. Entries of
  /// padding are not read.
  template <class Real>
  void check_call(const RouterInput<Real>& in) const {
    impl::check_call_of(inner_, in);
    if (!in.replay) return;
    require_extent("replay", "rows", in.tokens(), in.replay.rows);
    if (in.replay.cols < 1) fail<shape_error>("replay: expected at least 1 column, got ", in.replay.cols);
    const Index most = inner_.most(in.options, outputs_);
    for (Index t = 0; t < in.tokens(); ++t) {
      if (in.takes_part(t)) check_row(in, t, most);
    }
  }

  template <class Real>
  Index select(const RowContext<Real>& row, Real* choice, ExpertId* out) const noexcept {
    if (row.call.replay.empty()) return inner_.select(row, choice, out);
    const ExpertId* const ids = row.call.replay.row(row.token);
    Index count = 0;
    for (Index i = 0; i < row.call.replay.cols && ids[i] >= 0; ++i) {
      if (!is_neg_inf(choice[ids[i]])) out[count++] = ids[i];
    }
    return count;
  }

 private:
  template <class Real>
  void check_row(const RouterInput<Real>& in, Index t, Index most) const {
    const ExpertId* const ids = in.replay.row(t);
    const Real* const mask = in.mask_row(t);
    for (Index i = 0; i < in.replay.cols && ids[i] != -1; ++i) {
      if (ids[i] < 0 || Index{ids[i]} >= outputs_) {
        fail<route_error>("replay: expected expert ids in [0, ", outputs_, ") or -1, got ", ids[i],
                          " for token ", t);
      }
      if (i == most) {
        fail<route_error>("replay: expected at most ", most, " experts (the inner selection), got ", i + 1,
                          " for token ", t);
      }
      for (Index j = 0; j < i; ++j) {
        if (ids[j] == ids[i]) {
          fail<route_error>("replay: expected every expert once, got ", ids[i], " twice for token ", t);
        }
      }
      if (mask != nullptr && Index{ids[i]} < in.logit_mask.cols && is_neg_inf(mask[ids[i]])) {
        fail<route_error>("replay: expected experts that logit_mask leaves open, got ", ids[i], " for token ",
                          t);
      }
    }
  }

  Inner inner_;
  Index outputs_;
};

MOE_NAMESPACE_END
