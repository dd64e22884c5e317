// One row of a call as the parts of a router see it.
#pragma once

#include <cstdint>

#include "moe/core/column.hpp"
#include "moe/core/input.hpp"
#include "moe/core/random.hpp"
#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

/// What score, selection and weighting may look at: their own row, and what the call says of it. To look at
/// another row would break contract C1; what needs several rows is a selection over a set
/// (router/selection/concept.hpp).
template <class Real>
struct RowContext {
  const RouterInput<Real>& call;
  Index token = 0;              // t
  Index n = 0;                  // N
  const Real* logit = nullptr;  // [N] with noise, mask and temperature
  const Real* score = nullptr;  // [N] null while the score function makes them

  /// K of the call; 0: as the part was built.
  Index k() const noexcept { return call.options.experts_per_token; }
  bool training() const noexcept { return call.training; }
  TokenId token_id() const noexcept { return entry(call.token_id); }
  /// The row's entry of a column of the call, `otherwise` where the call has no such column.
  template <class T>
  T entry(const Column<T>& column, T otherwise = T{}) const noexcept {
    return column.empty() ? otherwise : column[token];
  }
  /// The row's row of a matrix of the call, null where the call has none. One of a single row is for all.
  template <class T>
  const T* entries(const ConstMatrixView<T>& column) const noexcept {
    return column.empty() ? nullptr : column.row(column.rows == 1 ? 0 : token);
  }
  /// In (0, 1), keyed by (seed, call, stream, row key, lane). A part that draws says so in its check_call:
  /// call.require_draws(kName).
  double uniform(DrawStream stream, std::uint32_t lane = 0) const noexcept {
    return call.random(stream).uniform(call.key(token), lane);
  }
  double normal(DrawStream stream, std::uint32_t lane = 0) const noexcept {
    return call.random(stream).normal(call.key(token), lane);
  }
};

/// The chosen experts of one token.
struct Chosen {
  const ExpertId* id = nullptr;  // [count] first choice first
  Index count = 0;
};

MOE_NAMESPACE_END
