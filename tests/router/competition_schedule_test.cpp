#include "moe/router/competition_schedule.hpp"

#include <cmath>

#include "support/catch.hpp"

namespace {

using moe::CompetitionSchedule;
using moe::CompetitionScheduleOptions;
using moe::Index;

Index competing(const CompetitionSchedule& schedule, Index step) {
  Index count = 0;
  for (Index layer = 0; layer < schedule.options().layers; ++layer)
    count += schedule.competes(layer, step) ? 1 : 0;
  return count;
}

}  // namespace

TEST_CASE("CompetitionSchedule: nobody in the warm-up, a few layers at a step, the rate kept", "[schedule]") {
  const CompetitionSchedule schedule(
      {.layers = 12, .steps = 1000, .rate = 0.2, .warm_up = 0.1, .most = 3, .seed = 4});
  CHECK(schedule.warm() == 100);
  Index total = 0, full = 0;
  for (Index step = 0; step < 1000; ++step) {
    const Index now = competing(schedule, step);
    CHECK(now <= (step < 100 ? 0 : 3));
    total += now;
    full += now == 3 ? 1 : 0;
  }
  // 12 x 900 coins of 0.2, of which none is lost: there is room for 2700.
  CHECK(std::abs(static_cast<double>(total) - 2160) <= 4 * std::sqrt(12 * 900 * 0.2 * 0.8));
  CHECK(full > 300);
  CHECK_FALSE(schedule.competes(0, 5000));
}

TEST_CASE("CompetitionSchedule: who finds no room moves back, then forward, then is dropped", "[schedule]") {
  // Every coin is heads: the first layer has its own steps, the second all that is left, the third none.
  const CompetitionSchedule one({.layers = 3, .steps = 5, .rate = 1, .warm_up = 0, .most = 1});
  for (Index step = 0; step < 5; ++step) {
    CHECK(one.competes(0, step));
    CHECK(competing(one, step) == 1);
  }
  const CompetitionSchedule two({.layers = 3, .steps = 5, .rate = 1, .warm_up = 0.4, .most = 2});
  for (Index step = 0; step < 5; ++step) CHECK(competing(two, step) == (step < 2 ? 0 : 2));

  // A moved coin lands on the nearest step before it that has room, or, for want of one, after it.
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const CompetitionScheduleOptions options{
        .layers = 2, .steps = 12, .rate = 0.4, .warm_up = 0, .most = 1, .seed = seed};
    const CompetitionSchedule schedule(options);
    CompetitionScheduleOptions alone = options;
    alone.most = 2;
    const CompetitionSchedule free(alone);  // the coins themselves
    Index taken[12] = {};
    for (Index step = 0; step < 12; ++step) taken[step] = free.competes(0, step) ? 1 : 0;
    bool want[12] = {};
    for (Index step = 0; step < 12; ++step) {
      if (!free.competes(1, step)) continue;
      Index at = step;
      while (at >= 0 && taken[at] == 1) --at;
      if (at < 0) {
        for (at = step; at < 12 && taken[at] == 1;) ++at;
      }
      if (at == 12) continue;
      want[at] = true;
      taken[at] = 1;
    }
    for (Index step = 0; step < 12; ++step) {
      CHECK(schedule.competes(0, step) == free.competes(0, step));
      CHECK(schedule.competes(1, step) == want[step]);
    }
  }
}

TEST_CASE("CompetitionSchedule: bad options", "[schedule]") {
  const CompetitionScheduleOptions good{.layers = 2, .steps = 3};
  for (Index CompetitionScheduleOptions::*size :
       {&CompetitionScheduleOptions::layers, &CompetitionScheduleOptions::steps,
        &CompetitionScheduleOptions::most}) {
    CompetitionScheduleOptions bad = good;
    bad.*size = 0;
    CHECK_THROWS_AS(CompetitionSchedule(bad), moe::config_error);
  }
  for (const double value : {-0.1, 1.1, std::nan("")}) {
    CompetitionScheduleOptions bad = good;
    bad.rate = value;
    CHECK_THROWS_AS(CompetitionSchedule(bad), moe::config_error);
    bad = good;
    bad.warm_up = value;
    CHECK_THROWS_AS(CompetitionSchedule(bad), moe::config_error);
  }
  CHECK_THROWS_AS(CompetitionSchedule(good).competes(2, 0), moe::config_error);
  CHECK_THROWS_AS(CompetitionSchedule(good).competes(0, -1), moe::config_error);
}
