// Expert dropout: in training, hidden values of the experts are dropped at random, more of them than in the
// rest of a model that is fine-tuned. Switch Transformer, Fedus et al. 2101.03961 section 2.4.
#pragma once

#include <cstdint>

#include "moe/core/check.hpp"
#include "moe/core/random.hpp"
#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

/// h_j = 0 with probability `rate`, else h_j / (1 - rate), whose mean is h_j. Drawn per (seed, call, row key,
/// expert, j): a row's own, wherever it stands in a batch, on any number of threads.
class HiddenDropout {
 public:
  struct Options {
    double rate = 0;         // the paper's: 0.4
    std::uint64_t seed = 0;  // apart from the calls': banks that see the same rows take different ones
  };

  HiddenDropout() = default;
  /// Throws config_error for a rate outside [0, 1).
  explicit HiddenDropout(Options options) : options_(options) {
    if (!(options.rate >= 0 && options.rate < 1)) {
      fail<config_error>("expert dropout: expected a rate in [0, 1), got ", options.rate);
    }
  }
  const Options& options() const noexcept { return options_; }
  bool active() const noexcept { return options_.rate > 0; }
  /// Of what is kept.
  double scale() const noexcept { return 1 / (1 - options_.rate); }

  KeyedRandom draw(const DrawKey& call) const noexcept {
    return {call.seed ^ options_.seed, call.call, DrawStream::hidden_dropout};
  }

  /// Columns [column, column + count) of the hidden values of expert e, of which each has `hidden`. `draws`:
  /// draw(call); two columns share one draw of 64 bits.
  template <class Real>
  void apply(const KeyedRandom& draws, std::uint64_t row_key, Index e, Index hidden, Index column,
             Index count, Real* h, bool* kept) const noexcept {
    const double below = options_.rate * 0x1p32;
    const auto factor = static_cast<Real>(scale());
    const Index lane = e * ceil_div(hidden, Index{2});
    std::uint64_t bits = 0;
    for (Index i = 0; i < count; ++i) {
      const Index j = column + i;
      if (i == 0 || j % 2 == 0) bits = draws.bits(row_key, static_cast<std::uint32_t>(lane + j / 2));
      const auto half = static_cast<std::uint32_t>(j % 2 == 0 ? bits >> 32 : bits);
      kept[i] = static_cast<double>(half) >= below;
      h[i] = kept[i] ? h[i] * factor : Real{0};
    }
  }

 private:
  Options options_{};
};

MOE_NAMESPACE_END
