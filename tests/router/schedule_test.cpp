#include "moe/router/schedule.hpp"

#include <Eigen/Core>
#include <cmath>
#include <limits>
#include <string>

#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace {

using moe::Index;
using test::message_of;
using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// From `from` to `to`, exactly at both ends, within them and never back.
template <class S>
void check_course(const S& schedule, double from, double to, Index steps) {
  CHECK(schedule.at(0) == from);
  CHECK(schedule.at(steps) == to);
  CHECK(schedule.at(steps + 1) == to);
  CHECK(schedule.at(PTRDIFF_MAX) == to);
  Index wrong = 0;
  for (Index step = 0; step < steps; ++step) {
    const double now = schedule.at(step), next = schedule.at(step + 1);
    wrong += from <= to ? !(from <= now && now <= next && next <= to)
                        : !(from >= now && now >= next && next >= to);
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("schedules go from one value to the other and never back", "[router]") {
  for (const Index steps : {1, 2, 3, 10, 49, 1000}) {
    for (const auto& [from, to] : {std::pair(0.0, 1.0), std::pair(8e-3, 8e-4), std::pair(64.0, 1.0),
                                   std::pair(-0.1, 0.3), std::pair(5.0, 5.0), std::pair(-1e308, 1e308)}) {
      CAPTURE(steps, from, to);
      check_course(moe::LinearSchedule({from, to, steps}), from, to, steps);
      check_course(moe::CosineSchedule({from, to, steps}), from, to, steps);
      for (const Index stairs : {1, 2, 7}) {
        check_course(moe::StairSchedule({from, to, steps, stairs}), from, to, steps);
      }
      const moe::WarmUp<moe::CosineSchedule> warm({from, steps}, moe::CosineSchedule({to, from, 20}));
      check_course(moe::LinearSchedule({from, to, steps}), from, warm.at(steps), steps);
      CHECK((warm.at(0) == from && warm.at(steps) == to && warm.at(steps + 20) == from));
    }
  }
}

TEST_CASE("schedules by hand", "[router]") {
  const moe::LinearSchedule line({.from = 2, .to = 10, .steps = 8});
  CHECK((line.at(1) == 3 && line.at(6) == 8));
  const moe::CosineSchedule cosine({.from = 1, .to = 0, .steps = 3});
  CHECK(std::fabs(cosine.at(1) - 0.75) < 1e-15);
  CHECK(std::fabs(cosine.at(2) - 0.25) < 1e-15);
  const moe::StairSchedule stairs({.from = 8, .to = 2, .steps = 9, .stairs = 3});
  for (const Index step : {0, 1, 2}) CHECK(stairs.at(step) == 8);
  for (const Index step : {3, 4, 5}) CHECK(stairs.at(step) == 6);
  for (const Index step : {6, 7, 8}) CHECK(stairs.at(step) == 4);
  CHECK(stairs.at(9) == 2);
  const moe::WarmUp<moe::LinearSchedule> warm({.from = 0, .steps = 4}, line);
  CHECK((warm.at(1) == 0.5 && warm.at(4) == 2 && warm.at(5) == 3 && warm.at(12) == 10));
}

TEST_CASE("schedules are checked", "[router]") {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInf = std::numeric_limits<double>::infinity();
  using moe::config_error;
  CHECK(message_of<config_error>([&] {
          moe::LinearSchedule s({kNan, 0, 1});
        }) == "moe: schedule: expected finite values, got nan");
  CHECK(message_of<config_error>([&] {
          moe::CosineSchedule s({0, kInf, 1});
        }) == "moe: schedule: expected finite values, got inf");
  CHECK_THAT(message_of<config_error>([&] {
               moe::StairSchedule s({0, 1, 0, 1});
             }),
             Catch::Contains("schedule steps: expected a value in [1, "));
  CHECK_THAT(message_of<config_error>([&] {
               moe::StairSchedule s({0, 1, 1, 0});
             }),
             Catch::Contains("stairs: expected a value in [1, "));
  const moe::LinearSchedule line({0, 1, 5});
  CHECK_THAT(message_of<config_error>([&] {
               moe::WarmUp<moe::LinearSchedule> s({0, 0}, line);
             }),
             Catch::Contains("schedule steps: expected a value in [1, "));
  CHECK_THAT(message_of<config_error>([&] { line.at(-1); }),
             Catch::Contains("step: expected a value in [0, "));
}

// VER anneals K from all experts to few, SMoE-Dropout raises it over a router that stays as it was drawn: K
// of the call gives the bits of a layer built with that K.
TEST_CASE("a scheduled K gives the bits of a layer built with it", "[router]") {
  constexpr Index kExperts = 6, kSteps = 10;
  const auto layer_of = [](Index k) {
    auto router = moe::top_k_softmax<float>({.width = 8, .experts = kExperts, .k = k});
    router.scorer().initialise(1);
    moe::Glu<moe::Silu> bank({.experts = kExperts, .width = 8, .hidden = 5});
    bank.initialise(2);
    return moe::MoeLayer(std::move(router), std::move(bank));
  };
  const auto layer = layer_of(1);
  const moe::CosineSchedule falling({.from = kExperts, .to = 2, .steps = kSteps});
  const moe::LinearSchedule rising({.from = 1, .to = kExperts, .steps = kSteps});
  CHECK((moe::rounded_at(falling, 0) == kExperts && moe::rounded_at(falling, kSteps) == 2));
  CHECK((moe::rounded_at(rising, 0) == 1 && moe::rounded_at(rising, kSteps) == kExperts));

  const Rows x = Rows::Random(15, 8);
  moe::Workspace workspace;
  for (Index step = 0; step <= kSteps; ++step) {
    for (const Index k : {moe::rounded_at(falling, step), moe::rounded_at(rising, step)}) {
      moe::LayerInput<float> in(x);
      in.options.experts_per_token = k;
      Rows y(15, 8), built(15, 8);
      moe::LayerOutput<float> out(y), out_built(built);
      layer.forward(in, out, workspace);
      layer_of(k).forward(x, out_built, workspace);
      CHECK(y == built);
    }
  }
}
