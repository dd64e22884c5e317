// How many experts a token gets at which step of a diffusion: the capacity factor of expert choice as a
// function of the share of tokens that is still masked. "Expert-choice routing enables adaptive computation
// in diffusion language models".
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"

MOE_NAMESPACE_BEGIN

enum class CapacityShape : std::uint8_t {
  constant,
  linear,
  cosine,  // half a cosine: slow at both ends
  step,    // one jump at half the tokens
};

/// c(r) of a mask ratio r in [0, 1], from budget + spread at 0 to budget - spread at 1, around `budget`: its
/// mean over r is the budget for every shape. It goes to CallOptions::capacity_factor of a router with
/// ColumnTopK. Experts take whole rows, C = floor(c n / N) of a segment of n, so that the mean of C N / n is
/// below the budget, by less than N / n (and above it where C is lifted to 1).
class CapacitySchedule {
 public:
  struct Options {
    CapacityShape shape = CapacityShape::linear;
    double budget = 2;  // experts per token, on average over the steps
    double spread = 1;  // below 0: more experts for what is masked
  };

  /// Throws config_error unless the budget is finite and > 0 and the spread between the budget and its
  /// negative.
  explicit CapacitySchedule(const Options& options) : options_(options) {
    if (!(options.budget > 0 && is_finite(options.budget))) {
      fail<config_error>("capacity budget: expected a finite value > 0, got ", options.budget);
    }
    if (!(std::abs(options.spread) < options.budget)) {
      fail<config_error>("capacity spread: expected a value in (-", options.budget, ", ", options.budget,
                         "), got ", options.spread);
    }
  }

  /// c(r). Throws config_error for an r outside [0, 1].
  double at(double mask_ratio) const {
    if (!(mask_ratio >= 0 && mask_ratio <= 1)) {
      fail<config_error>("mask ratio: expected a value in [0, 1], got ", mask_ratio);
    }
    return options_.budget + options_.spread * course(mask_ratio);
  }

 private:
  /// From 1 to -1, its mean 0.
  double course(double r) const noexcept {
    switch (options_.shape) {
      case CapacityShape::linear:
        return 1 - 2 * r;
      case CapacityShape::cosine:
        return std::cos(std::numbers::pi * r);
      case CapacityShape::step:
        return r < 0.5 ? 1 : -1;
      case CapacityShape::constant:
        break;
    }
    return 0;
  }

  Options options_;
};

MOE_NAMESPACE_END
