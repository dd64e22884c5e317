// Equal groups of a router's outputs: group g has the ids from g * size on.
#pragma once

#include "moe/core/check.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// Throws config_error unless `outputs` are `groups` equal groups.
inline void check_groups(Index groups, Index outputs) {
  if (outputs % groups != 0) {
    fail<config_error>("groups: expected a divisor of the ", outputs, " outputs, got ", groups);
  }
}

}  // namespace impl

MOE_NAMESPACE_END
