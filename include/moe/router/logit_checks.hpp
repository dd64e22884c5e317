// What every router that scores rows does with logits that are not numbers.
#pragma once

#include <limits>

#include "moe/core/check.hpp"
#include "moe/core/input.hpp"
#include "moe/core/view.hpp"
#include "moe/kernel/finite.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// For scorers: whether what a row's logits are, or come from, is finite. If not, some of it is NaN or +inf
/// afterwards, so that check_logit_rows finds the row: a -inf alone becomes NaN, for a sum masks nobody. A
/// bounded map hides what it is given, so ask before.
template <class Real>
bool finite_or_spoiled(Real* row, Index n) noexcept {
  if (all_finite(row, n)) return true;
  for (Index j = 0; j < n && first_bad_logit(row, n) < 0; ++j) {
    if (is_neg_inf(row[j])) row[j] = std::numeric_limits<Real>::quiet_NaN();
  }
  return false;
}

/// For scorers that look at several rows: whether the call's mask alone spoils row t, whatever its logits.
/// Such a row must have no part in another's.
template <class Real>
bool mask_spoils(const RouterInput<Real>& in, Index t) noexcept {
  const Real* const mask = in.mask_row(t);
  const Index n = in.logit_mask.cols;
  return mask != nullptr && (first_bad_logit(mask, n) >= 0 || !any_above_neg_inf(mask, n));
}

/// Sets active[t] for the rows that take part. A row with NaN, +inf or nothing above -inf throws
/// numeric_error naming token and expert or, with isolate_row, is marked spoiled and inactive.
template <class Real>
void check_logit_rows(const RouterInput<Real>& in, const MatrixView<Real>& logits, NonFinite policy,
                      bool* spoiled, bool* active) {
  for (Index t = 0; t < in.tokens(); ++t) {
    active[t] = in.takes_part(t);
    if (!active[t]) continue;
    const Real* const row = logits.row(t);
    const Index bad = first_bad_logit(row, logits.cols);
    if (bad < 0 && any_above_neg_inf(row, logits.cols)) continue;
    if (policy == NonFinite::throw_) {
      if (bad >= 0) {
        fail<numeric_error>("logits: expected finite values or -inf (masked), got ", row[bad], " for token ",
                            t, ", expert ", bad, "; NonFinite::isolate_row confines it to its row");
      }
      fail<numeric_error>("logits: expected at least one unmasked expert, got all -inf for token ", t,
                          "; NonFinite::isolate_row confines it to its row");
    }
    spoiled[t] = true;
    active[t] = false;
  }
}

}  // namespace impl

MOE_NAMESPACE_END
