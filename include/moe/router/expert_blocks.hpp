// Outputs in equal blocks of ids (devices, clusters), and rows that lie on a device (column `device`).
#pragma once

#include "moe/core/check.hpp"
#include "moe/core/input.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// Throws config_error unless every one of the blocks (`what`: "devices", ...) has as many of the outputs.
inline void require_blocks(const char* what, Index blocks, Index outputs) {
  if (blocks < 1 || outputs % blocks != 0) {
    fail<config_error>(what, ": expected a divisor of the ", outputs, " outputs, got ", blocks);
  }
}

/// Throws config_error without the column, route_error for a device that is not there.
template <class Real>
void check_device_column(const RouterInput<Real>& in, Index devices) {
  if (in.tokens() > 0 && in.device.empty()) {
    fail<config_error>("device: expected ", in.tokens(), " devices, one for each row, got none");
  }
  for (Index t = 0; t < in.tokens(); ++t) {
    if (!in.takes_part(t)) continue;
    if (in.device[t] < 0 || in.device[t] >= devices) {
      fail<route_error>("device: expected numbers in [0, ", devices, "), got ", in.device[t], " for token ",
                        t);
    }
  }
}

/// The outputs on the row's own device.
struct LocalOutputs {
  Index first = 0, last = 0;
  template <class Real>
  LocalOutputs(const RouterInput<Real>& in, Index t, Index devices, Index outputs) noexcept
      : first(Index{in.device.data()[t]} * (outputs / devices)), last(first + outputs / devices) {}
};

}  // namespace impl

MOE_NAMESPACE_END
