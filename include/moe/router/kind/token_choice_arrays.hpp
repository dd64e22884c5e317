// What moe/router/kind/token_choice.hpp forms between rows and table, and on the way back.
#pragma once

#include <cstdint>

#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/kernel/row.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/weighting/concept.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// What the router forms on the way to its table. N outputs, M room for choices per token.
template <class Real>
struct TokenChoiceArrays {
  Logits<Real> logits;            // [T, N]
  MatrixView<Real> score;         // [T, N]
  MatrixView<Real> probability;   // [T, N]; empty unless a loss needs it
  ExpertId* chosen = nullptr;     // [T, M]
  Index* chosen_count = nullptr;  // [T]
  Real* weight = nullptr;         // [T, M]
  bool* keep = nullptr;           // [T, M] routed to a real expert
  bool* active = nullptr;         // [T]
  Index most = 0;                 // M
  MatrixView<Real> plan;          // [T, N] what weights are made of; empty: of the scores
  double* kept = nullptr;         // of who made it

  static MatrixView<Real> matrix(Arena& arena, Index rows, Index cols) {
    Real* const data = arena.take<Real>(checked_product("logits", rows, cols));
    MatrixView<Real> view;
    view.data = data;
    view.rows = rows;
    view.cols = view.stride = cols;
    return view;
  }

  static TokenChoiceArrays carve(Arena& arena, Index tokens, Index outputs, Index most, bool noisy,
                                 bool probability, Index carry_width) {
    TokenChoiceArrays a;
    a.logits.value = matrix(arena, tokens, outputs);
    if (carry_width > 0) a.logits.carry = matrix(arena, tokens, carry_width);
    if (noisy) {
      a.logits.clean = matrix(arena, tokens, outputs);
      a.logits.noise_scale = matrix(arena, tokens, outputs);
    }
    a.score = matrix(arena, tokens, outputs);
    if (probability) a.probability = matrix(arena, tokens, outputs);
    a.chosen = arena.take<ExpertId>(checked_product("choices", tokens, most));
    a.chosen_count = arena.take<Index>(tokens);
    a.weight = arena.take<Real>(tokens * most);
    a.keep = arena.take<bool>(tokens * most);
    a.active = arena.take<bool>(tokens);
    a.most = most;
    return a;
  }
};

/// Gradients on their way back from weights to logits. `kAgain`: with scratch for a weighting that learns.
template <class Real, bool kAgain>
struct TokenChoiceScratch {
  Logits<Real> logits;
  MatrixView<Real> score;
  MatrixView<Real> probability;
  MatrixView<Real> plan;
  Real* weight;  // [T, M]
  Index weights;
  std::int32_t* rows;         // [T] that take part
  WeightScratch<Real> again;  // [M], for weightings with parameters
  TokenChoiceScratch(Arena& arena, Index tokens, Index outputs, Index most, bool noisy, bool with_probability,
                     bool with_plan) {
    using Arrays = TokenChoiceArrays<Real>;
    logits.value = Arrays::matrix(arena, tokens, outputs);
    if (noisy) {
      logits.clean = Arrays::matrix(arena, tokens, outputs);
      logits.noise_scale = Arrays::matrix(arena, tokens, outputs);
    }
    score = Arrays::matrix(arena, tokens, outputs);
    if (with_probability) probability = Arrays::matrix(arena, tokens, outputs);
    if (with_plan) plan = Arrays::matrix(arena, tokens, outputs);
    weights = tokens * most;
    weight = arena.take<Real>(weights);
    rows = arena.take<std::int32_t>(tokens);
    if constexpr (kAgain) again = {arena.take<Real>(most), arena.take<bool>(most), arena.take<Real>(most)};
  }
  void zero() const noexcept {
    for (const MatrixView<Real>& m :
         {logits.value, logits.clean, logits.noise_scale, score, probability, plan}) {
      moe::fill_row(Real{0}, m.data, m.rows * m.cols);
    }
    moe::fill_row(Real{0}, weight, weights);
  }
};

}  // namespace impl

MOE_NAMESPACE_END
