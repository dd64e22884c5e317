// The length of a vector, for who divides by it.
#pragma once

#include <math.h>
#include <limits>

#include "moe/core/types.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/math.hpp"
#include "moe/kernel/row.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

inline constexpr double kShortestLength = 1e-12;

/// |v|, at least 1e-12; NaN of a vector that is not finite, or too long.
template <class Real>
Real length_of(const Real* v, Index n) noexcept {
  const Real squares = squared_norm(v, n);
  const Real size =
      is_finite(squares) ? math::square_root(squares) : static_cast<Real>(::sqrt(wide_squared_norm(v, n)));
  if (!is_finite(size)) return std::numeric_limits<Real>::quiet_NaN();
  return size > static_cast<Real>(kShortestLength) ? size : static_cast<Real>(kShortestLength);
}

}  // namespace impl

MOE_NAMESPACE_END
