// Parts chosen at run time, by a config file say: each holds one of the static parts and runs its code, so
// the templated and the run-time routers cannot differ.
#pragma once

#include <utility>
#include <variant>

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/identity.hpp"
#include "moe/router/score/relu.hpp"
#include "moe/router/score/sigmoid.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/score/sqrt_softplus.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/concept.hpp"
#include "moe/router/selection/group_limited.hpp"
#include "moe/router/selection/positive.hpp"
#include "moe/router/selection/table.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/concept.hpp"
#include "moe/router/weighting/gather.hpp"
#include "moe/router/weighting/leading.hpp"
#include "moe/router/weighting/sigmoid.hpp"
#include "moe/router/weighting/softmax.hpp"
#include "moe/router/weighting/sparse_mixer.hpp"

MOE_NAMESPACE_BEGIN

/// A score function of this library.
class AnyScore {
  using Parts = std::variant<Softmax, SigmoidScore, ReluScore, IdentityScore, SqrtSoftplusScore>;

 public:
  template <class F>
  requires std::is_constructible_v<Parts, F> AnyScore(F part)
      : part_(part) {}  // NOLINT(google-explicit-constructor)

  template <class Real>
  void forward(const Real* logit, Real* score, Index n) const noexcept {
    std::visit([&](const auto& part) { part.forward(logit, score, n); }, part_);
  }
  template <class Real>
  void backward(const Real* logit, const Real* score, const Real* dscore, Real* dlogit,
                Index n) const noexcept {
    std::visit([&](const auto& part) { part.backward(logit, score, dscore, dlogit, n); }, part_);
  }
  template <class Real>
  void probability(const Real* score, Real* out, Index n) const noexcept {
    std::visit([&](const auto& part) { part.probability(score, out, n); }, part_);
  }
  template <class Real>
  void probability_backward(const Real* score, const Real* probability, const Real* dprobability,
                            Real* dscore, Index n) const noexcept {
    std::visit(
        [&](const auto& part) { part.probability_backward(score, probability, dprobability, dscore, n); },
        part_);
  }

 private:
  Parts part_;
};

/// A selection of this library.
class AnySelection {
  using Parts = std::variant<TopKSelection, GroupLimitedSelection, PositiveSelection, TableSelection>;

 public:
  template <class Part>
  requires std::is_constructible_v<Parts, Part> AnySelection(Part part)
      : part_(std::move(part)) {}  // NOLINT(google-explicit-constructor)

  Index most(Index k, Index n) const {
    return std::visit([&](const auto& part) { return part.most(k, n); }, part_);
  }
  template <class Real>
  Index select(Real* choice, Index n, Index k, TokenId token, ExpertId* out) const noexcept {
    return std::visit(
        [&](const auto& part) {
          if constexpr (TokenSelection<std::decay_t<decltype(part)>>) {
            return part.select(choice, n, k, token, out);
          } else {
            return part.select(choice, n, k, out);
          }
        },
        part_);
  }
  template <class Real>
  void check_tokens(const RouterInput<Real>& in) const {
    if (const auto* const table = std::get_if<TableSelection>(&part_)) table->check_tokens(in);
  }

 private:
  Parts part_;
};

/// A weighting of this library.
class AnyWeighting {
  using Parts = std::variant<GatherWeighting, SoftmaxWeighting, SigmoidWeighting, LeadingWeighting,
                             SparseMixerWeighting>;

 public:
  template <class Part>
  requires std::is_constructible_v<Parts, Part> AnyWeighting(Part part)
      : part_(std::move(part)) {}  // NOLINT(google-explicit-constructor)

  Index experts(Index outputs) const noexcept {
    return std::visit([&](const auto& part) { return part.experts(outputs); }, part_);
  }
  template <class Real>
  void forward(const Chosen& chosen, const Real* score, Real* weight, bool* keep) const noexcept {
    std::visit([&](const auto& part) { part.forward(chosen, score, weight, keep); }, part_);
  }
  template <class Real>
  void backward(const Chosen& chosen, const Real* score, const Real* dweight, Real* dscore) const noexcept {
    std::visit([&](const auto& part) { part.backward(chosen, score, dweight, dscore); }, part_);
  }

 private:
  Parts part_;
};

/// Token choice with every part but the scorer and the losses chosen at run time.
template <class Real, class Balance = Balancing<>>
using AnyTokenChoice = TokenChoice<LinearScorer<Real>, AnyScore, AnySelection, AnyWeighting, Balance>;

MOE_NAMESPACE_END
