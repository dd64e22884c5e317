// In training the C best rows of a sequence, in inference the rows of which that was foretold: causal there,
// and each row for itself. Mixture-of-Depths, Raposo et al. 2404.02258, section 3.5.
#pragma once

#include <math.h>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/router/selection/column_top_k.hpp"
#include "moe/router/selection/concept.hpp"

MOE_NAMESPACE_BEGIN

/// Chooses output 0 or nothing. Training: the C = max(1, round down of share * active rows) rows of a segment
/// with the highest score 0, ties to the lower row. Inference: rows whose last logit foretells it, sigma(l) >
/// 1/2, or CallOptions::threshold. CallOptions::capacity_factor takes the place of the share in training.
class ForeseenTopK {
 public:
  static constexpr const char* kName = "foreseen_top_k";
  struct Options {
    double share = 0.125;
  };

  static constexpr Coupling coupling(bool training) noexcept {
    return training ? Coupling::per_segment : Coupling::row_independent;
  }

  explicit ForeseenTopK(Options options)
      : options_(options), best_({.capacity_factor = options.share, .positive = false}) {}
  const Options& options() const noexcept { return options_; }

  /// Throws config_error unless the share is in (0, 1] and there are one or two outputs.
  void check(Index outputs) const {
    require_range("outputs of a foreseen choice", outputs, 1, 2);
    best_.check(1);
  }
  template <class Real>
  void check_call(const RouterInput<Real>& in) const {
    if (in.training) {
      best_.check_call(in);
      return;
    }
    impl::refuse_option("experts per token", in.options.experts_per_token, "the selection ", kName);
    impl::refuse_option("capacity factor", in.options.capacity_factor, "the selection ", kName,
                        " in inference");
    impl::refuse_option("p", in.options.p, "the selection ", kName);
    if (!(in.options.threshold < 1)) {
      fail<config_error>("threshold: expected a probability below 1, got ", in.options.threshold);
    }
  }

  Index max_pairs(const CallShape& shape, Index) const { return shape.tokens; }
  void measure(Arena& arena, Index tokens, Index) const {
    arena.take<ExpertId>(tokens);
    best_.measure(arena, tokens, 1);
  }

  template <class Real, Executor X>
  void select_set(const SetCall<Real>& set, ExpertId* chosen, Index* count, Arena& arena, X& executor) const {
    const Index tokens = set.choice.rows, n = set.choice.cols;
    if (set.call.training) {
      SetCall<Real> first = set;
      first.choice.cols = first.score.cols = first.logit.cols = 1;
      best_.select_set(first, arena.take<ExpertId>(tokens), count, arena, executor);
    } else {
      const double asked = set.call.options.threshold;
      const Real least = asked == 0 ? Real{0} : static_cast<Real>(::log(asked / (1 - asked)));
      for (Index t = 0; t < tokens; ++t) count[t] = set.active[t] && set.logit(t, n - 1) > least ? 1 : 0;
    }
    for (Index t = 0; t < tokens; ++t) {
      if (count[t] > 0) chosen[t * n] = 0;
    }
  }

 private:
  Options options_;
  ColumnTopK best_;
};

MOE_NAMESPACE_END
