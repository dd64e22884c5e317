// Selections of token-choice routers: choice scores of one row -> expert ids, first choice first. Ties go to
// the lower id; an output whose choice score is -inf is masked and never chosen.
#pragma once

#include <concepts>
#include <limits>

#include "moe/core/input.hpp"
#include "moe/core/types.hpp"
#include "moe/kernel/finite.hpp"

MOE_NAMESPACE_BEGIN

/// `most(k, n)`: bound on choices per row for a per-call k (0: as built); throws config_error when k does not
/// fit. `select(choice, n, k, out)` may overwrite `choice` and returns how many ids it wrote.
template <class S>
concept Selection = std::copy_constructible<S> &&
    requires(const S& s, double* choice, Index n, ExpertId* out) {
  { s.most(n, n) } -> std::same_as<Index>;
  { s.select(choice, n, n, out) }
  noexcept->std::same_as<Index>;
};

/// A selection that also looks at the row's token id: `select(choice, n, k, token, out)`, after
/// `check_tokens(in)` has thrown for ids that it needs and does not have.
template <class S>
concept TokenSelection = std::copy_constructible<S> &&
    requires(const S& s, double* choice, Index n, TokenId token, ExpertId* out,
             const RouterInput<double>& in) {
  { s.most(n, n) } -> std::same_as<Index>;
  { s.select(choice, n, n, token, out) }
  noexcept->std::same_as<Index>;
  s.check_tokens(in);
};

namespace impl {

template <class Real>
inline constexpr Real kMasked = -std::numeric_limits<Real>::infinity();

/// The chosen ids without the masked ones, which come last.
template <class Real>
Index without_masked(const Real* choice, const ExpertId* chosen, Index count) noexcept {
  while (count > 0 && is_neg_inf(choice[chosen[count - 1]])) --count;
  return count;
}

}  // namespace impl

MOE_NAMESPACE_END
