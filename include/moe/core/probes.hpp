// What experts say of rows before anybody has chosen: the first part of their work, kept for the second, and
// one number for each pair, by which rows are routed (layer/probe).
#pragma once

#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"

MOE_NAMESPACE_BEGIN

/// A probe of r numbers and a response for every row and expert, in memory of the call or of a tape; which
/// layout is the bank's affair. Gradients of probes look the same.
template <class Real>
struct Probes {
  Real* data = nullptr;
  Index size = 0;               // numbers at `data`, padding included
  Index width = 0;              // r
  Index token_stride = 0;       // from the probe of one token
  Index expert_stride = 0;      // and of one expert to the next
  MatrixView<Real> response{};  // [T, E]

  Index tokens() const noexcept { return response.rows; }
  Index experts() const noexcept { return response.cols; }
  explicit operator bool() const noexcept { return width > 0; }
  /// [r] of token t and expert e.
  Real* of(Index t, Index e) const noexcept { return data + t * token_stride + e * expert_stride; }

  /// [T][E r], rows `row` apart: a token's probes side by side.
  static Probes by_token(Arena& arena, Index tokens, Index experts, Index width, Index row) {
    return carve(arena, tokens, experts, checked_product("probes", tokens, row), width, row, width);
  }
  /// [E][T] rows `row` apart: an expert's probes side by side.
  static Probes by_expert(Arena& arena, Index tokens, Index experts, Index width, Index row) {
    return carve(arena, tokens, experts, checked_product("probes", experts, tokens, row), width, row,
                 tokens * row);
  }

 private:
  static Probes carve(Arena& arena, Index tokens, Index experts, Index size, Index width, Index token_stride,
                      Index expert_stride) {
    Probes probes;
    probes.data = arena.take<Real>(size);
    probes.size = size;
    probes.width = width;
    probes.token_stride = token_stride;
    probes.expert_stride = expert_stride;
    Real* const response = arena.take<Real>(checked_product("responses", tokens, experts));
    probes.response.data = response;
    probes.response.rows = tokens;
    probes.response.cols = probes.response.stride = experts;
    return probes;
  }
};

MOE_NAMESPACE_END
