#include "moe/router/capacity_schedule.hpp"

#include <limits>
#include <vector>

#include "moe/router/named/expert_choice.hpp"
#include "support/catch.hpp"
#include "support/router_laws.hpp"

using moe::CapacitySchedule;
using moe::CapacityShape;
using moe::Index;

namespace {

constexpr CapacityShape kShapes[] = {CapacityShape::constant, CapacityShape::linear, CapacityShape::cosine,
                                     CapacityShape::step};

}  // namespace

TEST_CASE("the mean of every shape is the budget; its ends are told", "[router]") {
  for (const CapacityShape shape : kShapes) {
    for (const double spread : {0.0, 0.5, 1.4, -1.0}) {
      INFO("shape " << static_cast<int>(shape) << ", spread " << spread);
      const CapacitySchedule schedule({.shape = shape, .budget = 1.5, .spread = spread});
      double sum = 0, before = schedule.at(0);
      for (int i = 0; i < 1000; ++i) {
        const double c = schedule.at((i + 0.5) / 1000);
        CHECK(c > 0);
        CHECK((spread >= 0 ? c <= before : c >= before));  // never turns round
        sum += c / 1000;
        before = c;
      }
      CHECK(std::abs(sum - 1.5) <= 1e-12);
      const double s = shape == CapacityShape::constant ? 0 : spread;
      CHECK(schedule.at(0) == 1.5 + s);
      CHECK(schedule.at(1) == 1.5 - s);
    }
  }
}

TEST_CASE("capacities are whole rows: their mean is below the budget by less than a row", "[router]") {
  const Index rows = 24, experts = 8;
  auto router = moe::expert_choice<double>({.width = 4, .experts = experts});
  test::randomise(router, 3);
  for (const CapacityShape shape : kShapes) {
    INFO("shape " << static_cast<int>(shape));
    const CapacitySchedule schedule({.shape = shape, .budget = 1.9, .spread = 1.2});
    auto call = test::random_call<double>(rows, 4, 5);
    double mean = 0;
    for (int i = 0; i < 50; ++i) {
      call.options.capacity_factor = schedule.at((i + 0.5) / 50);
      const Index pairs = test::route(router, call).pairs();
      CHECK(pairs == experts * moe::ColumnTopK::capacity(rows, call.options.capacity_factor, experts));
      mean += static_cast<double>(pairs) / static_cast<double>(rows) / 50;
    }
    CHECK(mean < 1.9);
    CHECK(mean > 1.9 - static_cast<double>(experts) / static_cast<double>(rows));
  }
}

TEST_CASE("capacity schedules refuse what leaves no expert, and ratios that are none", "[router]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double bad : {0.0, -1.0, nan, std::numeric_limits<double>::infinity()})
    CHECK_THROWS_AS(CapacitySchedule({.budget = bad, .spread = 0}), moe::config_error);
  for (const double bad : {2.0, -2.0, nan})
    CHECK_THROWS_AS(CapacitySchedule({.budget = 2, .spread = bad}), moe::config_error);
  for (const double bad : {-0.1, 1.1, nan}) CHECK_THROWS_AS(CapacitySchedule({}).at(bad), moe::config_error);
}
