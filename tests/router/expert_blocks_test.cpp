#include "moe/router/expert_blocks.hpp"

#include <cstdint>
#include <vector>

#include "support/catch.hpp"

TEST_CASE("blocks come out even, and a row's own is that of its device", "[router]") {
  CHECK_NOTHROW(moe::impl::require_blocks("clusters", 3, 6));
  CHECK_THROWS_WITH(moe::impl::require_blocks("clusters", 4, 6),
                    "moe: clusters: expected a divisor of the 6 outputs, got 4");
  CHECK_THROWS_AS(moe::impl::require_blocks("devices", 0, 6), moe::config_error);
  const std::vector<std::int32_t> device{2, 0};
  moe::RouterInput<float> in;
  in.x.rows = 2;
  in.device = device;
  const moe::impl::LocalOutputs own(in, 0, 3, 6);
  CHECK((own.first == 4 && own.last == 6));
  CHECK_NOTHROW(moe::impl::check_device_column(in, 3));
  CHECK_THROWS_AS(moe::impl::check_device_column(in, 2), moe::route_error);
  const bool valid[] = {false, true};
  in.valid = valid;
  CHECK_NOTHROW(moe::impl::check_device_column(in, 2));  // the row takes no part
}
