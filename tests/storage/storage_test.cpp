#include "moe/storage/storage.hpp"

#include <concepts>

#include "support/catch.hpp"

TEST_CASE("plain storage computes in its own type", "[weights]") {
  STATIC_REQUIRE(std::same_as<moe::StorageTraits<float>::Real, float>);
  STATIC_REQUIRE(std::same_as<moe::StorageTraits<double>::Real, double>);
}
