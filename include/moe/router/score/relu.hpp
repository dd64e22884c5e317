// The positive part of each logit: ReMoE, Wang et al. 2412.14711.
#pragma once

#include "moe/kernel/activation.hpp"
#include "moe/router/score/elementwise.hpp"

MOE_NAMESPACE_BEGIN

/// max(logit, 0): ReMoE.
struct ReluScore : impl::ElementwiseScore<Relu> {
  static constexpr const char* kName = "relu";
};

MOE_NAMESPACE_END
