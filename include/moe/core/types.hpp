// Index types and the letters used everywhere: T tokens, D model width, F expert hidden width, E experts,
// K experts per token, P routed pairs (token, expert).
#pragma once

#include <cstddef>
#include <cstdint>

#include "moe/config.hpp"

MOE_NAMESPACE_BEGIN

/// Sizes, strides and offsets, end to end. Stored ids are narrower and widened before any multiplication.
using Index = std::ptrdiff_t;
using ExpertId = std::int32_t;
using TokenId = std::int32_t;

/// What the call is for. Noise, jitter and auxiliary losses belong to training.
/// `by_call`: `forward` means inference, `forward_train` means training.
enum class Mode : std::uint8_t { by_call, inference, training };

/// What a router does with a row whose logits are NaN, +inf or masked everywhere.
/// `throw_`: numeric_error naming token and expert. `isolate_row`: that token's output row becomes NaN, it is
/// routed nowhere and takes part in no loss; every other row is untouched.
enum class NonFinite : std::uint8_t { throw_, isolate_row };

/// How much of the batch one token's result may depend on. Ordered: a layer has the weakest of its parts.
enum class Coupling : std::uint8_t { row_independent, per_segment, per_batch };

constexpr Coupling weakest(Coupling a, Coupling b) noexcept {
  return a < b ? b : a;
}

constexpr Index ceil_div(Index a, Index b) noexcept {
  return (a + b - 1) / b;
}

constexpr Index round_up(Index a, Index b) noexcept {
  return ceil_div(a, b) * b;
}

MOE_NAMESPACE_END
