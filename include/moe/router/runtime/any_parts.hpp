// Parts of token-choice routers chosen at run time. Which there are is said by the lists
// (router/score/list.hpp and its like) alone; here stands, once per family, what its concept asks for.
#pragma once

#include <utility>

#include "moe/core/one_of.hpp"
#include "moe/core/type_list.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/list.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/list.hpp"
#include "moe/router/weighting/list.hpp"

MOE_NAMESPACE_BEGIN

/// A score function of the library.
class AnyScore : public FromList<OneOf, Scores> {
 public:
  using FromList<OneOf, Scores>::OneOf;

  template <class Real>
  void forward(const RowContext<Real>& row, Real* score) const noexcept {
    visit([&](const auto& part) { part.forward(row, score); });
  }
  template <class Real>
  void backward(const RowContext<Real>& row, const Real* dscore, Real* dlogit) const noexcept {
    visit([&](const auto& part) { part.backward(row, dscore, dlogit); });
  }
  template <class Real>
  void probability(const RowContext<Real>& row, Real* out) const noexcept {
    visit([&](const auto& part) { part.probability(row, out); });
  }
  template <class Real>
  void probability_backward(const RowContext<Real>& row, const Real* probability, const Real* dprobability,
                            Real* dscore) const noexcept {
    visit([&](const auto& part) { part.probability_backward(row, probability, dprobability, dscore); });
  }
};

/// A selection of the library that looks at one row.
class AnySelection : public FromList<OneOf, Selections> {
 public:
  using FromList<OneOf, Selections>::OneOf;

  Index most(const CallOptions& options, Index n) const {
    return visit([&](const auto& part) { return part.most(options, n); });
  }
  template <class Real>
  Index select(const RowContext<Real>& row, Real* choice, ExpertId* out) const noexcept {
    return visit([&](const auto& part) { return part.select(row, choice, out); });
  }
};

/// A weighting of the library.
class AnyWeighting : public FromList<OneOf, Weightings> {
 public:
  using FromList<OneOf, Weightings>::OneOf;

  Index experts(Index outputs) const noexcept {
    return visit([&](const auto& part) { return impl::experts_of(part, outputs); });
  }
  template <class Real>
  void forward(const RowContext<Real>& row, const Chosen& chosen, Real* weight, bool* keep) const noexcept {
    visit([&](const auto& part) { part.forward(row, chosen, weight, keep); });
  }
  template <class Real>
  void backward(const RowContext<Real>& row, const Chosen& chosen, Real* dweight,
                Real* dscore) const noexcept {
    visit([&](const auto& part) { part.backward(row, chosen, dweight, dscore); });
  }
};

/// The part of that name ("softmax", "top_k", "gather", ...) with its default options. Throws config_error
/// that lists the names there are.
inline AnyScore score_named(const char* name) {
  return part_named<AnyScore>(Scores{}, "score", name);
}
inline AnyWeighting weighting_named(const char* name) {
  return part_named<AnyWeighting>(Weightings{}, "weighting", name);
}

/// Token choice with every part but the scorer and the losses chosen at run time.
template <class Real, class Balance = Balancing<>>
using AnyTokenChoice = TokenChoice<LinearScorer<Real>, AnyScore, AnySelection, AnyWeighting, Balance>;

MOE_NAMESPACE_END
