#include "moe/core/type_list.hpp"

#include <tuple>

#include "support/catch.hpp"

namespace {
using List = moe::TypeList<int, char, double>;
}

TEST_CASE("lists of types are walked in order and fill templates", "[core]") {
  STATIC_REQUIRE(List::kSize == 3);
  STATIC_REQUIRE(moe::ListedIn<char, List>);
  STATIC_REQUIRE(!moe::ListedIn<float, List>);
  STATIC_REQUIRE(std::is_same_v<moe::FromList<std::tuple, List>, std::tuple<int, char, double>>);
  std::size_t sizes = 0;
  moe::for_each_type(List{}, [&]<class T>(std::type_identity<T>) { sizes = 100 * sizes + sizeof(T); });
  CHECK(sizes == 40108);
}
