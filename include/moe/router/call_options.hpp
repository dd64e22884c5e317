// Options of a call that a router cannot obey: they are refused, never ignored.
#pragma once

#include "moe/core/check.hpp"
#include "moe/core/input.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// Throws config_error when a call sets an option that whatever is called `of...` cannot obey.
template <class Number, class... Of>
void refuse_option(const char* name, Number value, const Of&... of) {
  if (value != Number{0}) {
    fail<config_error>(name, ": expected none for ", of..., ", which cannot obey it, got ", value);
  }
}

/// The same of every option that speaks of scores, for routers without them.
template <class... Of>
void refuse_score_options(const CallOptions& options, const Of&... of) {
  refuse_option("capacity factor", options.capacity_factor, of...);
  refuse_option("temperature", options.temperature, of...);
  refuse_option("threshold", options.threshold, of...);
  refuse_option("p", options.p, of...);
}

}  // namespace impl

MOE_NAMESPACE_END
