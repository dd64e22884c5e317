#include "moe/router/task_projection.hpp"

#include <string>
#include <vector>

#include "support/catch.hpp"

using moe::Index;

namespace {
using Map = moe::TaskProjection<double>;
}  // namespace

TEST_CASE("a map for each task: outputs, gradients and names by hand", "[router]") {
  Map map(2, 2, 3);
  std::vector<std::string> names;
  map.visit_parameters("gate", nullptr, [&](const moe::Parameter<double>& p) {
    names.emplace_back(p.name);
    for (Index o = 0; o < 6; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) p.value(o, i) = static_cast<double>(10 * o + i + 1);
    }
  });
  CHECK(names == std::vector<std::string>{"gate.weight", "gate.bias"});
  const double x[] = {3, -1};
  CHECK(map.output(0, 1, x) == 3 * 11 - 12 + 11);
  CHECK(map.output(2, 0, x) == 3 * 41 - 42 + 41);

  Map::Gradients gradients = map.make_gradients();
  double dx[] = {1, 0};
  const double d[] = {2, -1};
  const auto rows = [&](const auto& add) { add(Index{0}, Index{2}, d); };
  map.backward(moe::ConstMatrixView<double>(x, 1, 2), rows, moe::MatrixView<double>(dx, 1, 2), &gradients);
  CHECK(dx[0] == 1 + 2 * 41 - 51);
  CHECK(dx[1] == 2 * 42 - 52);
  for (Index o = 0; o < 6; ++o) {
    const double own = o < 4 ? 0 : d[o - 4];
    CHECK(gradients.weight[2 * o] == 3 * own);
    CHECK(gradients.weight[2 * o + 1] == -own);
    CHECK(gradients.bias[o] == own);
  }
  map.backward(moe::ConstMatrixView<double>(x, 1, 2), rows, {}, nullptr);

  map.initialise(1, 0);
  CHECK(map.output(1, 0, x) != map.output(2, 0, x));
  for (const Index bad : {0, -1}) {
    CHECK_THROWS_AS(Map(bad, 1, 1), moe::config_error);
    CHECK_THROWS_AS(Map(1, bad, 1), moe::config_error);
    CHECK_THROWS_AS(Map(1, 1, bad), moe::config_error);
  }
}
