// For routers that look at several rows.
#pragma once

#include <limits>

#include "moe/core/types.hpp"
#include "moe/router/concept.hpp"
#include "support/catch.hpp"
#include "support/router_call.hpp"
#include "support/router_laws.hpp"

namespace test {

/// A row whose mask leaves it nothing has no more part in the others than padding has.
template <class R>
void check_masked_row(R router, RouterCall<double> call) {
  randomise(router, 5);
  router.set_non_finite(moe::NonFinite::isolate_row);
  call.training = true;
  RouterCall<double> padded = call;
  const moe::Index n = router.outputs();
  call.mask_per_row = true;
  call.mask.assign(static_cast<std::size_t>(call.tokens * n), 0);
  for (moe::Index e = 0; e < n; ++e) {
    call.mask[static_cast<std::size_t>(2 * n + e)] = -std::numeric_limits<double>::infinity();
  }
  padded.valid.assign(padded.tokens, true);
  padded.valid[2] = false;
  const auto masked = route(router, call), without = route(router, padded);
  for (moe::Index t = 0; t < call.tokens; ++t) CHECK(same_row(masked, t, without, t));
  CHECK(same_bits(all_gradients(router, call), all_gradients(router, padded)));
  router.set_non_finite(moe::NonFinite::throw_);
  CHECK_THROWS_WITH(route(router, call), Catch::Matchers::Contains("all -inf for token 2"));
}

}  // namespace test
