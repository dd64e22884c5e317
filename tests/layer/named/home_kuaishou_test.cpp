#include "moe/layer/named/home_kuaishou.hpp"

#include <vector>

#include "support/catch.hpp"
#include "support/layer_laws.hpp"

using moe::Index;

namespace {

constexpr Index kCategory[] = {0, 1};

auto layer_of(Index hidden) {
  return moe::home_kuaishou<double>({.width = 4, .hidden = hidden, .hierarchy = {.category = kCategory}});
}

}  // namespace

TEST_CASE("HomeKuaishou: laws", "[layer]") {
  std::vector<std::int32_t> task;
  test::LayerCall call;
  call.columns = [&](moe::LayerInput<double>& in, const std::vector<Index>& rows) {
    task.clear();
    for (const Index r : rows) task.push_back(static_cast<std::int32_t>(r % 2));
    in.task = task;
  };
  test::check_layer(
      "HomeKuaishou", [] { return layer_of(5); }, [] { return layer_of(6); }, call);
}
