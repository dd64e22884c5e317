// Values that move from step to step: K, temperature, a capacity factor, the scale of losses, a learning
// rate. Who asks for a step's value hands it on: to CallOptions, LayerGradients::auxiliary_scale, an
// optimiser.
#pragma once

#include <cmath>
#include <concepts>
#include <numbers>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/kernel/finite.hpp"

MOE_NAMESPACE_BEGIN

/// `at(step)`: the value at a step, from 0; config_error for one below.
template <class S>
concept Schedule = std::copyable<S> && requires(const S& schedule, Index step) {
  { schedule.at(step) } -> std::same_as<double>;
};

struct ScheduleOptions {
  double from = 0;  // at step 0
  double to = 0;    // at step `steps` and for ever after
  Index steps = 1;  // >= 1
};

namespace impl {

/// What all schedules from one value to another share: between the ends, which are exact, they never leave
/// [from, to] nor turn round.
class Course {
 public:
  explicit Course(const ScheduleOptions& options) : options_(options) {
    for (const double value : {options.from, options.to}) {
      if (!is_finite(value)) fail<config_error>("schedule: expected finite values, got ", value);
    }
    require_range("schedule steps", options.steps, 1, PTRDIFF_MAX);
  }

  /// `way(part of the steps)` is the part of the way.
  template <class Way>
  double at(Index step, const Way& way) const {
    require_range("step", step, 0, PTRDIFF_MAX);
    if (step >= options_.steps) return options_.to;
    return std::lerp(options_.from, options_.to,
                     way(static_cast<double>(step) / static_cast<double>(options_.steps)));
  }

 private:
  ScheduleOptions options_;
};

}  // namespace impl

/// A straight line.
class LinearSchedule {
 public:
  using Options = ScheduleOptions;
  /// Throws config_error for values that are not finite and steps below 1.
  explicit LinearSchedule(const Options& options) : course_(options) {}

  double at(Index step) const {
    return course_.at(step, [](double part) { return part; });
  }

 private:
  impl::Course course_;
};

/// Half a cosine: slow at both ends.
class CosineSchedule {
 public:
  using Options = ScheduleOptions;
  /// As LinearSchedule's.
  explicit CosineSchedule(const Options& options) : course_(options) {}

  double at(Index step) const {
    return course_.at(step, [](double part) { return 0.5 - 0.5 * std::cos(std::numbers::pi * part); });
  }

 private:
  impl::Course course_;
};

/// `stairs` jumps of one height, the last at `steps`, the same number of steps apart (of fractions, later).
class StairSchedule {
 public:
  struct Options {
    double from = 0;
    double to = 0;
    Index steps = 1;
    Index stairs = 1;  // >= 1
  };
  /// As LinearSchedule's, and for stairs below 1.
  explicit StairSchedule(const Options& options)
      : course_({options.from, options.to, options.steps}), stairs_(options.stairs) {
    require_range("stairs", options.stairs, 1, PTRDIFF_MAX);
  }

  double at(Index step) const {
    const auto stairs = static_cast<double>(stairs_);
    return course_.at(step, [&](double part) { return std::floor(part * stairs) / stairs; });
  }

 private:
  impl::Course course_;
  Index stairs_;
};

/// A straight line up (or down) to where another schedule begins, which goes on from there.
template <Schedule S>
class WarmUp {
 public:
  struct Options {
    double from = 0;  // at step 0
    Index steps = 1;  // >= 1
  };
  /// As LinearSchedule's.
  WarmUp(const Options& options, S then)
      : line_({options.from, then.at(0), options.steps}), steps_(options.steps), then_(std::move(then)) {}

  double at(Index step) const { return step < steps_ ? line_.at(step) : then_.at(step - steps_); }

 private:
  LinearSchedule line_;
  Index steps_;
  S then_;
};

/// The nearest whole number, halves away from 0: K at a step.
template <Schedule S>
Index rounded_at(const S& schedule, Index step) {
  return static_cast<Index>(std::llround(schedule.at(step)));
}

MOE_NAMESPACE_END
