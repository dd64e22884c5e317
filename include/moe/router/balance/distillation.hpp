// Teaches the router on token ids what the trained one chooses. StableMoE, 2204.08396.
#pragma once

#include <cmath>

#include "moe/router/balance/concept.hpp"
#include "moe/router/log_softmax.hpp"

MOE_NAMESPACE_BEGIN

/// c * mean over tokens of the cross-entropy between the token's first choice and the softmax of the small
/// router's scores; 0 from the second stage on. The released code adds over tokens, as its task's loss does.
/// It reads a DistilledScorer (router/scorer/distilled.hpp), whose embedding and centroids get all of the
/// gradient.
class RouteDistillation {
 public:
  static constexpr const char* kName = "route_distillation";
  struct Options {
    double coefficient = 1;
  };

  RouteDistillation() = default;
  /// Throws config_error for a coefficient that is not finite.
  explicit RouteDistillation(Options options) : options_(options) {
    impl::checked_coefficient(kName, options.coefficient);
  }

  double coefficient() const noexcept { return options_.coefficient; }
  void measure(Arena& arena, Index, Index outputs) const { arena.take<double>(outputs); }

  template <class Real, class Scorer>
  requires requires(const Scorer& s) { s.distilled_score(TokenId{}, Index{}); }
  double forward(const BalanceInput<Real>& in, const Scorer& scorer, Arena& arena) const {
    double* const log_share = arena.take<double>(in.outputs());
    double sum = 0;
    each_token(in, scorer, log_share, [&](Index t, TokenId) { sum -= log_share[in.choices(t)[0]]; });
    return in.active_count == 0 ? 0.0 : options_.coefficient * sum / static_cast<double>(in.active_count);
  }

  template <class Real, class Scorer>
  requires requires(const Scorer& s) { s.distilled_score(TokenId{}, Index{}); }
  void backward(const BalanceInput<Real>& in, const Scorer& scorer, double scale,
                const BalanceGradients<Real>&, typename Scorer::Gradients* gradients, Arena& arena) const {
    if (gradients == nullptr) return;
    double* const log_share = arena.take<double>(in.outputs());
    const Index m = scorer.embedding_width();
    each_token(in, scorer, log_share, [&](Index t, TokenId id) {
      for (Index e = 0; e < in.outputs(); ++e) {
        const double target = e == Index{in.choices(t)[0]} ? 1.0 : 0.0;
        const auto d = static_cast<Real>(scale * options_.coefficient * (std::exp(log_share[e]) - target) /
                                         static_cast<double>(in.active_count));
        for (Index j = 0; j < m; ++j) {
          gradients->embedding[Index{id} * m + j] += d * scorer.centroid_row(e)[j];
          gradients->centroid[e * m + j] += d * scorer.embedding_row(id)[j];
        }
      }
    });
  }

 private:
  /// f(t, id) for tokens with a choice, ascending, with the logarithm of the small router's softmax.
  template <class Real, class Scorer, class F>
  static void each_token(const BalanceInput<Real>& in, const Scorer& scorer, double* log_share, F&& f) {
    for (Index t = 0; scorer.first_stage() && t < in.tokens(); ++t) {
      if (!in.active[t] || in.chosen_count[t] == 0) continue;
      const TokenId id = in.call.token_id.data()[t];
      for (Index e = 0; e < in.outputs(); ++e)
        log_share[e] = static_cast<double>(scorer.distilled_score(id, e));
      impl::log_softmax_row(log_share, in.outputs());
      f(t, id);
    }
  }

  Options options_{};
};

MOE_NAMESPACE_END
