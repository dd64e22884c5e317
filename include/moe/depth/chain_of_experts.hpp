// Chain-of-Experts, 2506.18945: C steps over one bank, a router each, every step's rows added to what it made
// of them.
#pragma once

#include <utility>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/depth/chain.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/top_k.hpp"

MOE_NAMESPACE_BEGIN

/// Steps that refer to the caller's bank, which must outlive them.
template <class Bank>
using ChainOfExperts = Chain<MoeLayer<SoftmaxTopK<typename Bank::Real>, Bank&>>;

struct ChainOfExpertsOptions {
  Index steps = 2;       // C
  TopKOptions router{};  // of every step; k: experts a step, K / C of a layer of K for the same compute
  Residual residual = Residual::inner;
};

/// Routers of options.router, a weight matrix each, over `bank`. Throws config_error for steps < 1 and for
/// routers that do not fit the bank.
template <class Bank>
ChainOfExperts<Bank> chain_of_experts(const ChainOfExpertsOptions& options, Bank& bank) {
  require_range("steps", options.steps, 1, INT32_MAX);
  using Real = typename Bank::Real;
  std::vector<MoeLayer<SoftmaxTopK<Real>, Bank&>> steps;
  for (Index i = 0; i < options.steps; ++i) steps.emplace_back(softmax_top_k<Real>(options.router), bank);
  return ChainOfExperts<Bank>(std::move(steps), options.residual);
}

MOE_NAMESPACE_END
