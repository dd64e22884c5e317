// The three combine weights of MoE++, Jin et al. 2410.07348: of the paper and of its two published codes.
#pragma once

#include <cstdint>

#include "moe/router/weighting/concept.hpp"
#include "moe/router/weighting/gather.hpp"
#include "moe/router/weighting/leading.hpp"

MOE_NAMESPACE_BEGIN

/// Combine weights of the chosen.
enum class MoePlusPlusWeights : std::uint8_t {
  probability,           // the softmax over all (the paper)
  shares,                // divided by their sum (published code for Mixtral)
  shares_without_zeros,  // zero experts weigh 0, the rest is divided by its sum (published code otherwise)
};

/// The weights that MoePlusPlusWeights names.
class MoePlusPlusWeighting {
 public:
  static constexpr const char* kName = "moe_plus_plus";
  struct Options {
    MoePlusPlusWeights weights = MoePlusPlusWeights::probability;
    Index first_zero = 1;  // ids from here on are zero experts
  };

  /// Throws config_error for first_zero < 1.
  explicit MoePlusPlusWeighting(Options options)
      : all_({.normalise = options.weights == MoePlusPlusWeights::shares ? Normalise::sum : Normalise::none}),
        without_zeros_({.leading = options.first_zero}),
        options_(options) {}
  const Options& options() const noexcept { return options_; }

  template <class Real>
  void forward(const RowContext<Real>& row, const Chosen& chosen, Real* weight, bool* keep) const noexcept {
    return skips_zeros() ? without_zeros_.forward(row, chosen, weight, keep)
                         : all_.forward(row, chosen, weight, keep);
  }
  template <class Real>
  void backward(const RowContext<Real>& row, const Chosen& chosen, const Real* dweight,
                Real* dscore) const noexcept {
    return skips_zeros() ? without_zeros_.backward(row, chosen, dweight, dscore)
                         : all_.backward(row, chosen, dweight, dscore);
  }

 private:
  bool skips_zeros() const noexcept { return options_.weights == MoePlusPlusWeights::shares_without_zeros; }

  GatherWeighting all_;
  LeadingWeighting without_zeros_;
  Options options_;
};

MOE_NAMESPACE_END
