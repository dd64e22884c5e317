// A sigmoid for each output: DeepSeek-V3 and its kin.
#pragma once

#include "moe/kernel/activation.hpp"
#include "moe/router/score/elementwise.hpp"

MOE_NAMESPACE_BEGIN

/// Each output on its own: 1 / (1 + exp(-logit)).
struct SigmoidScore : impl::ElementwiseScore<Sigmoid> {
  static constexpr const char* kName = "sigmoid";
};

MOE_NAMESPACE_END
