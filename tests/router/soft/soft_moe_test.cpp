#include "moe/router/soft/soft_moe.hpp"

#include "support/catch.hpp"
#include "support/errors.hpp"

TEST_CASE("Soft MoE has the slots that were asked for", "[router][smoke]") {
  const auto router = moe::soft_moe<float>({.width = 4, .experts = 3, .slots = 5});
  CHECK(router.experts() == 3);
  CHECK(router.outputs() == 15);
  CHECK(router.width() == 4);
  CHECK(router.coupling(false) == moe::Coupling::per_segment);
  CHECK(router.extent({100, 4}).slots == 60);
  CHECK(test::message_of<moe::config_error>([] { moe::soft_moe<float>({.width = 4, .experts = 0}); }) ==
        "moe: experts: expected a value in [1, 2147483647], got 0");
  CHECK_THROWS_AS(moe::soft_moe<float>({.width = 4, .experts = 2, .slots = 0}), moe::config_error);
  CHECK_THROWS_AS(moe::soft_moe<float>({.width = 0, .experts = 2}), moe::config_error);
}
