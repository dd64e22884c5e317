// Which logits the sparse mixers leave out: those too far below the best. SparseMixer 2310.00811, GRIN
// 2409.12136.
#pragma once

#include "moe/config.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// False if (best - h) / max(|h|, best) > 2 eps, for `best` no less than h. 0 / 0 where both logits are 0:
/// NaN is not above, so the output counts, as in the released code.
template <class Real>
bool is_near_best(Real best, Real h, double eps) noexcept {
  const Real magnitude = h < 0 ? -h : h;
  const Real factor = magnitude > best ? magnitude : best;
  return !((best - h) / factor > 2 * static_cast<Real>(eps));
}

}  // namespace impl

MOE_NAMESPACE_END
