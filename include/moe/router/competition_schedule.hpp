// Which layers of a model let their experts compete at which training step, drawn beforehand, a few layers at
// most in one step: CompeteSMoE, 2505.13380.
#pragma once

#include <cstdint>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/random.hpp"
#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

struct CompetitionScheduleOptions {
  Index layers = 0;
  Index steps = 0;
  double rate = 0.05;     // of the steps behind the warm-up, for every layer
  double warm_up = 0.05;  // share of the steps, the first, at which nobody competes
  Index most = 3;         // layers at one step
  std::uint64_t seed = 0;
};

/// A layer after the other draws its steps. One at which enough compete already moves to the nearest earlier
/// step that has room, else to the nearest later one; without either it is dropped. Every process that has
/// seed and options has the same schedule.
class CompetitionSchedule {
 public:
  using Options = CompetitionScheduleOptions;

  /// Throws config_error for sizes below 1, a rate outside [0, 1] or a warm-up outside [0, 1).
  explicit CompetitionSchedule(const Options& options) : options_(options) {
    require_range("layers", options.layers, 1, INT32_MAX);
    require_range("steps", options.steps, 1, INT32_MAX);
    require_range("layers at one step", options.most, 1, INT32_MAX);
    if (!(options.rate >= 0 && options.rate <= 1)) {
      fail<config_error>("competition rate: expected a value in [0, 1], got ", options.rate);
    }
    if (!(options.warm_up >= 0 && options.warm_up < 1)) {
      fail<config_error>("warm-up: expected a value in [0, 1), got ", options.warm_up);
    }
    competes_.assign(checked_product("layers x steps", options.layers, options.steps), false);
    Buffer<Index> taken(options.steps);
    const KeyedRandom draw(options.seed, 0, DrawStream::competition);
    for (Index layer = 0; layer < options.layers; ++layer) {
      for (Index step = warm(); step < options.steps; ++step) {
        if (draw.uniform(static_cast<std::uint64_t>(step), static_cast<std::uint32_t>(layer)) < options.rate)
          place(layer, step, taken);
      }
    }
  }

  const Options& options() const noexcept { return options_; }
  /// First step at which anybody may compete.
  Index warm() const noexcept {
    return static_cast<Index>(options_.warm_up * static_cast<double>(options_.steps));
  }
  /// False for steps beyond the last. Throws config_error for a layer that is not there or a step below 0.
  bool competes(Index layer, Index step) const {
    require_range("layer", layer, 0, options_.layers - 1);
    require_range("step", step, 0, PTRDIFF_MAX);
    return step < options_.steps && competes_[layer * options_.steps + step];
  }

 private:
  void place(Index layer, Index step, Buffer<Index>& taken) noexcept {
    bool* const own = competes_.data() + layer * options_.steps;
    const auto has_room = [&](Index at) { return taken[at] < options_.most && !own[at]; };
    Index at = step;
    // Its own step may be taken by the layer itself, which came there from a later one.
    if (!has_room(at)) {
      for (at = step - 1; at >= warm() && !has_room(at);) --at;
    }
    if (at < warm()) {
      for (at = step + 1; at < options_.steps && !has_room(at);) ++at;
    }
    if (at == options_.steps) return;
    own[at] = true;
    ++taken[at];
  }

  Options options_;
  Buffer<bool> competes_;  // [layers, steps]
};

MOE_NAMESPACE_END
