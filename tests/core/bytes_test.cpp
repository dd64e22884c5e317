#include "moe/core/bytes.hpp"

#include <cstdint>

#include "support/catch.hpp"

TEST_CASE("numbers are stored with their lowest byte first", "[core]") {
  std::byte bytes[4] = {};
  moe::impl::store_little(bytes, std::uint32_t{0x04030201});
  for (int i = 0; i < 4; ++i) CHECK(bytes[i] == static_cast<std::byte>(i + 1));
  CHECK(moe::impl::load_little<std::uint32_t>(bytes) == 0x04030201);
  CHECK(moe::impl::load_little<std::uint16_t>(bytes + 1) == 0x0302);
}
