// How many experts the layers of a model have: six shapes over the depth. DynaMoE 2603.01697.
#pragma once

#include <math.h>

#include <cstdint>
#include <numbers>

#include "moe/core/check.hpp"

MOE_NAMESPACE_BEGIN

/// s(u) for u from 0 (the first layer) to 1 (the last).
enum class LayerShape : std::uint8_t {
  uniform,     // 1
  ascending,   // u
  descending,  // 1 - u
  pyramid,     // 1 - |2 u - 1|
  inverse,     // |2 u - 1|
  wave,        // (1 + sin(2 pi u)) / 2
};

/// Layer l of L has round(least + (most - least) s(l / (L - 1))) experts; the only layer of a model is its
/// first.
class LayerSchedule {
 public:
  struct Options {
    LayerShape shape = LayerShape::uniform;
    Index least = 1;
    Index most = 8;
    Index layers = 1;  // L
  };

  /// Throws config_error unless 1 <= least <= most and layers >= 1.
  explicit LayerSchedule(Options options) : options_(options) {
    require_range("least experts of a layer", options.least, 1, INT32_MAX);
    require_range("most experts of a layer", options.most, options.least, INT32_MAX);
    require_range("layers", options.layers, 1, INT32_MAX);
  }

  /// Throws config_error for a layer outside [0, L).
  Index at(Index layer) const {
    require_range("layer", layer, 0, options_.layers - 1);
    const double u =
        options_.layers == 1 ? 0.0 : static_cast<double>(layer) / static_cast<double>(options_.layers - 1);
    return options_.least +
           static_cast<Index>(::lround(static_cast<double>(options_.most - options_.least) * share(u)));
  }

 private:
  double share(double u) const noexcept {
    switch (options_.shape) {
      case LayerShape::uniform:
        return 1;
      case LayerShape::ascending:
        return u;
      case LayerShape::descending:
        return 1 - u;
      case LayerShape::pyramid:
        return 1 - ::fabs(2 * u - 1);
      case LayerShape::inverse:
        return ::fabs(2 * u - 1);
      case LayerShape::wave:
        return (1 + ::sin(2 * std::numbers::pi * u)) / 2;
    }
    return 1;
  }

  Options options_;
};

MOE_NAMESPACE_END
