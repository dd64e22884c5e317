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

/// One of several score functions.
template <class... Parts>
class OneScore : public OneOf<Parts...> {
  using Base = OneOf<Parts...>;

 public:
  using Base::Base;
  using typename Base::Gradients;

  template <class Real>
  void forward(const RowContext<Real>& row, Real* score) const noexcept {
    this->visit([&](const auto& part) { part.forward(row, score); });
  }
  template <class Real>
  void backward(const RowContext<Real>& row, const Real* dscore, Real* dlogit) const noexcept {
    this->visit([&](const auto& part) { part.backward(row, dscore, dlogit); });
  }
  template <class Real>
  void probability(const RowContext<Real>& row, Real* out) const noexcept {
    this->visit([&](const auto& part) { part.probability(row, out); });
  }
  template <class Real>
  void probability_backward(const RowContext<Real>& row, const Real* probability, const Real* dprobability,
                            Real* dscore) const noexcept {
    this->visit([&](const auto& part) { part.probability_backward(row, probability, dprobability, dscore); });
  }
  template <class Real>
  requires(LearningScore<Parts, Real> || ...)  //
      void add_gradients(const RowContext<Real>& row, const Real* dscore, Gradients& gradients) const {
    this->visit([&]<class Part>(const Part& part) {
      if constexpr (LearningScore<Part, Real>) part.add_gradients(row, dscore, *Base::own(part, &gradients));
    });
  }
};

namespace impl {

/// What selections of both kinds share.
template <class... Parts>
class LearningSelections : public OneOf<Parts...> {
  using Base = OneOf<Parts...>;

 public:
  using Base::Base;
  using typename Base::Gradients;

  template <class Real>
  requires(LearningSelection<Parts, Real> || ...)  //
      void add_gradients(const RowContext<Real>& row, const Chosen& chosen, const Real* dweight,
                         Gradients& gradients) const {
    this->visit([&]<class Part>(const Part& part) {
      if constexpr (LearningSelection<Part, Real>) {
        part.add_gradients(row, chosen, dweight, *Base::own(part, &gradients));
      }
    });
  }
};

}  // namespace impl

/// One of several selections that look at one row.
template <class... Parts>
class OneSelection : public impl::LearningSelections<Parts...> {
 public:
  using impl::LearningSelections<Parts...>::LearningSelections;

  Index most(const CallOptions& options, Index n) const {
    return this->visit([&](const auto& part) { return part.most(options, n); });
  }
  template <class Real>
  Index select(const RowContext<Real>& row, Real* choice, ExpertId* out) const noexcept {
    return this->visit([&](const auto& part) { return part.select(row, choice, out); });
  }
  /// Whether it is a SampledSelection that it holds.
  bool samples() const noexcept {
    return this->visit([](const auto& part) { return impl::samples<double>(part); });
  }
  /// 0, and no gradient, of one that samples nothing.
  template <class Real>
  requires(SampledSelection<Parts, Real> || ...)  //
      double log_probability(const RowContext<Real>& row, const Chosen& chosen) const noexcept {
    return this->visit([&]<class Part>(const Part& part) {
      if constexpr (SampledSelection<Part, Real>) return part.log_probability(row, chosen);
      return 0.0;
    });
  }
  template <class Real>
  requires(SampledSelection<Parts, Real> || ...)  //
      void log_probability_backward(const RowContext<Real>& row, const Chosen& chosen, double advantage,
                                    Real* dlogit) const noexcept {
    this->visit([&]<class Part>(const Part& part) {
      if constexpr (SampledSelection<Part, Real>) {
        part.log_probability_backward(row, chosen, advantage, dlogit);
      }
    });
  }
};

/// One of several selections over a set of rows.
template <class... Parts>
class OneSetSelection : public impl::LearningSelections<Parts...> {
 public:
  using impl::LearningSelections<Parts...>::LearningSelections;

  Index max_pairs(const CallShape& shape, Index n) const {
    return this->visit([&](const auto& part) { return Index{part.max_pairs(shape, n)}; });
  }
  void measure(Arena& arena, Index tokens, Index outputs) const {
    this->visit([&](const auto& part) { part.measure(arena, tokens, outputs); });
  }
  template <class Real, Executor X>
  void select_set(const SetCall<Real>& call, ExpertId* chosen, Index* count, Arena& arena,
                  X& executor) const {
    this->visit([&](const auto& part) { part.select_set(call, chosen, count, arena, executor); });
  }

  // A PlanningSelection, which a part that is none takes no part in.
  bool plans() const noexcept {
    return this->visit([](const auto& part) {
      if constexpr (requires { part.plans(); }) return part.plans();
      return false;
    });
  }
  Index kept(Index tokens, Index outputs) const {
    return this->visit([&](const auto& part) {
      if constexpr (requires { part.kept(tokens, outputs); }) return Index{part.kept(tokens, outputs)};
      return Index{0};
    });
  }
  void measure_backward(Arena& arena, Index tokens, Index outputs) const {
    this->visit([&](const auto& part) { impl::measure_backward_of(part, arena, tokens, outputs); });
  }
  template <class Real, Executor X>
  void plan_backward(const SetCall<Real>& call, const MatrixView<Real>& dplan, const MatrixView<Real>& dscore,
                     const MatrixView<Real>& dlogit, Arena& arena, X& executor) const {
    this->visit([&](const auto& part) {
      if constexpr (requires { part.plan_backward(call, dplan, dscore, dlogit, arena, executor); }) {
        part.plan_backward(call, dplan, dscore, dlogit, arena, executor);
      }
    });
  }
};

/// One of several weightings.
template <class... Parts>
class OneWeighting : public OneOf<Parts...> {
  using Base = OneOf<Parts...>;

 public:
  using Base::Base;
  using typename Base::Gradients;

  Index experts(Index outputs) const noexcept {
    return this->visit([&](const auto& part) { return impl::experts_of(part, outputs); });
  }
  template <class Real>
  void forward(const RowContext<Real>& row, const Chosen& chosen, Real* weight, bool* keep) const noexcept {
    this->visit([&](const auto& part) { part.forward(row, chosen, weight, keep); });
  }
  template <class Real>
  void backward(const RowContext<Real>& row, const Chosen& chosen, Real* dweight,
                Real* dscore) const noexcept {
    this->visit([&](const auto& part) { part.backward(row, chosen, dweight, dscore); });
  }
  template <class Real>
  requires(LearningWeighting<Parts, Real> || ...)  //
      void add_gradients(const RowContext<Real>& row, const Chosen& chosen, const Real* dweight,
                         const WeightScratch<Real>& scratch, Gradients& gradients) const {
    this->visit([&]<class Part>(const Part& part) {
      if constexpr (LearningWeighting<Part, Real>) {
        part.add_gradients(row, chosen, dweight, scratch, *Base::own(part, &gradients));
      }
    });
  }
};

/// A part of the library's lists.
using AnyScore = FromList<OneScore, Scores>;
using AnySelection = FromList<OneSelection, Selections>;
using AnySetSelection = FromList<OneSetSelection, SetSelections>;
using AnyWeighting = FromList<OneWeighting, Weightings>;

/// The part of that name ("softmax", "top_k", "gather", ...) with its default options. Throws config_error
/// that lists the names there are.
inline AnyScore score_named(const char* name) {
  return part_named<AnyScore>(Scores{}, "score", name);
}
inline AnySelection selection_named(const char* name) {
  return part_named<AnySelection>(Selections{}, "selection", name);
}
inline AnyWeighting weighting_named(const char* name) {
  return part_named<AnyWeighting>(Weightings{}, "weighting", name);
}

/// Token choice with every part but the scorer and the losses chosen at run time.
template <class Real, class Balance = Balancing<>>
using AnyTokenChoice = TokenChoice<LinearScorer<Real>, AnyScore, AnySelection, AnyWeighting, Balance>;

MOE_NAMESPACE_END
