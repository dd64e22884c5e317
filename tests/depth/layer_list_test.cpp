#include "moe/depth/layer_list.hpp"

#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "support/catch.hpp"

TEST_CASE("layers of one type are a vector, of several a tuple, walked alike in both directions", "[depth]") {
  static_assert(std::is_same_v<moe::impl::LayersOf<int>, std::vector<int>>);
  static_assert(std::is_same_v<moe::impl::LayersOf<int, int>, std::tuple<int, int>>);
  const auto walk = [](auto numbers, auto texts) {
    std::string all = std::to_string(moe::impl::list_size(numbers)) + ":";
    const auto write = [&](moe::Index i, int& number, const std::string& text) {
      number += 1;
      all += std::to_string(i) + text + std::to_string(number) + " ";
    };
    moe::impl::each_layer(write, numbers, texts);
    moe::impl::each_layer_back(write, numbers, texts);
    return all;
  };
  const std::string want = "3:0a2 1b3 2c4 2c5 1b4 0a3 ";
  CHECK(walk(std::vector<int>{1, 2, 3}, std::vector<std::string>{"a", "b", "c"}) == want);
  CHECK(walk(std::tuple(1, 2, 3), std::tuple(std::string("a"), std::string("b"), std::string("c"))) == want);
}
