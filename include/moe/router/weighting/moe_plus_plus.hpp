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
  /// Ids from `first_zero` on are zero experts.
  MoePlusPlusWeighting(MoePlusPlusWeights weights, Index first_zero)
      : all_({.normalise = weights == MoePlusPlusWeights::shares ? Normalise::sum : Normalise::none}),
        without_zeros_(first_zero, false),
        skips_zeros_(weights == MoePlusPlusWeights::shares_without_zeros) {}

  Index experts(Index outputs) const noexcept { return outputs; }

  template <class Real>
  void forward(const Chosen& chosen, const Real* score, Real* weight, bool* keep) const noexcept {
    return skips_zeros_ ? without_zeros_.forward(chosen, score, weight, keep)
                        : all_.forward(chosen, score, weight, keep);
  }
  template <class Real>
  void backward(const Chosen& chosen, const Real* score, const Real* dweight, Real* dscore) const noexcept {
    return skips_zeros_ ? without_zeros_.backward(chosen, score, dweight, dscore)
                        : all_.backward(chosen, score, dweight, dscore);
  }

 private:
  GatherWeighting all_;
  LeadingWeighting without_zeros_;
  bool skips_zeros_;
};

MOE_NAMESPACE_END
