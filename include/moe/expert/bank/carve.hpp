// Experts that are slices of a dense feed-forward layer.
#pragma once

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/storage/parameter.hpp"
#include "moe/storage/storage.hpp"

MOE_NAMESPACE_BEGIN

/// Fills `slices`, E experts of F / E hidden columns, with the one expert of `dense`, F hidden columns:
/// expert e gets columns [e F / E, (e + 1) F / E). All of them, weighed 1, add up to the dense layer but for
/// its second bias, which is returned [D] to be added once (an OutputBias frame; empty without biases): the
/// slices' own are 0. Union of Experts, Yang et al. 2503.02495. Throws config_error for a dense bank of
/// several experts or other sizes.
///
///   moe::Mlp<moe::Relu> slices({.experts = 8, .width = D, .hidden = F / 8, .bias = true});
///   auto bias = moe::carve_experts(dense, slices);
template <class Bank>
requires DenseStorage<typename Bank::StorageType> Buffer<typename Bank::Real> carve_experts(const Bank& dense,
                                                                                            Bank& slices) {
  using Real = typename Bank::Real;
  constexpr Index kParts = Bank::Parameters::kParts;
  const Index hidden = slices.hidden();
  require_range("experts of the dense bank", dense.experts(), 1, 1);
  require_range("width of the slices", slices.width(), dense.width(), dense.width());
  if (dense.hidden() != slices.experts() * hidden) {
    fail<config_error>("slices: expected ", slices.experts(), " equal shares of ", dense.hidden(),
                       " hidden columns, got ", hidden, " columns each");
  }
  if (dense.has_bias() != slices.has_bias()) {
    fail<config_error>("slices: expected biases in both banks or in none, got them in ",
                       dense.has_bias() ? "the dense one" : "the slices");
  }
  const Index kinds = (kParts + 1) * (dense.has_bias() ? 2 : 1);
  ParameterView<const Real> from[2 * (kParts + 1)];
  Index at = 0;
  visit_parameters(dense, [&](const auto& p) { from[at++] = p.value; });
  Buffer<Real> bias(dense.has_bias() ? dense.width() : 0);
  at = 0;
  slices.visit_parameters(nullptr, [&](const Parameter<Real>& p) {
    const Index e = at / kinds, kind = at % kinds, matrix = dense.has_bias() ? kind / 2 : kind;
    const bool second = matrix == kParts, is_bias = dense.has_bias() && kind % 2 == 1;
    ++at;
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) {
        if (second && is_bias) {
          p.value(o, i) = 0;
          bias[o] = from[kind](o, i);
        } else {
          p.value(o, i) = second ? from[kind](o, e * hidden + i) : from[kind](e * hidden + o, i);
        }
      }
    }
  });
  return bias;
}

MOE_NAMESPACE_END
