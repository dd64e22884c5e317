#include "moe/storage/storage.hpp"

#include <concepts>
#include <set>
#include <string>
#include <type_traits>

#include "moe/storage/list.hpp"
#include "support/catch.hpp"

TEST_CASE("plain storage computes in its own type", "[weights]") {
  STATIC_REQUIRE(std::same_as<moe::StorageTraits<float>::Real, float>);
  STATIC_REQUIRE(std::same_as<moe::StorageTraits<double>::Real, double>);
}

TEST_CASE("listed storages compute in float; those of blocks have names of their own", "[weights]") {
  std::set<std::string> names;
  moe::for_each_type(moe::Storages{}, [&]<class Storage>(std::type_identity<Storage>) {
    STATIC_REQUIRE(std::same_as<typename moe::StorageTraits<Storage>::Real, float>);
    if constexpr (moe::BlockStorage<Storage>) CHECK(names.insert(moe::StorageTraits<Storage>::kName).second);
  });
  CHECK(names.size() + 1 == moe::Storages::kSize);
}
