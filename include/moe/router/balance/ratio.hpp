// How often an output is used, held at a share: for gates that decide whether something costly runs. Learning
// to Skip, Zeng et al. 2311.15436; Router-Tuning, He et al. 2410.13184; FTP, Li et al. 2412.11494.
#pragma once

#include <cstdint>

#include "moe/core/check.hpp"
#include "moe/router/balance/concept.hpp"

MOE_NAMESPACE_BEGIN

/// What is held at the target, and how.
enum class RatioForm : std::uint8_t {
  squared,  // (mean of the output's probability - target)^2
  score,    // (mean of the output's score - target)^2: of a router of one output, whose probability is 1
  above,    // max(0, share of the rows that weigh more than 0 - target); the derivative of a row's 1 or 0 by
            // the output's score is taken for 1 (straight through). At the target no gradient
};

struct RatioLossOptions {
  double coefficient = 1;
  double target = 0.5;
  RatioForm form = RatioForm::squared;
  Index output = 0;
};

/// coefficient times the form, over the rows that take part.
class RatioLoss {
 public:
  static constexpr const char* kName = "ratio";
  using Options = RatioLossOptions;

  /// Throws config_error for a coefficient that is not finite, a target outside [0, 1] or an output below 0.
  explicit RatioLoss(const Options& options) : options_(options) {
    impl::checked_coefficient(kName, options.coefficient);
    if (!(options.target >= 0 && options.target <= 1)) {
      fail<config_error>("target of a ratio: expected a share in [0, 1], got ", options.target);
    }
    require_range("output of a ratio", options.output, 0, INT32_MAX);
  }
  const Options& options() const noexcept { return options_; }
  double coefficient() const noexcept { return options_.coefficient; }
  void check(Index outputs) const { require_range("output of a ratio", options_.output, 0, outputs - 1); }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena&) const {
    const double off = ratio(in) - options_.target;
    if (in.active_count == 0) return 0;
    if (options_.form != RatioForm::above) return options_.coefficient * off * off;
    return off > 0 ? options_.coefficient * off : 0;
  }

  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out, Arena&) const {
    if (in.active_count == 0) return;
    const double off = ratio(in) - options_.target;
    const double each = scale * options_.coefficient / static_cast<double>(in.active_count);
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.active[t]) continue;
      if (options_.form == RatioForm::squared) {
        out.dprobability(t, options_.output) += static_cast<Real>(2 * off * each);
      } else if (options_.form == RatioForm::score) {
        out.dscore(t, options_.output) += static_cast<Real>(2 * off * each);
      } else if (off > 0) {
        out.dscore(t, options_.output) += static_cast<Real>(each);
      }
    }
  }

 private:
  template <class Real>
  double ratio(const BalanceInput<Real>& in) const noexcept {
    double sum = 0;
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.active[t]) continue;
      if (options_.form != RatioForm::above) {
        sum += static_cast<double>(
            (options_.form == RatioForm::squared ? in.probability : in.score)(t, options_.output));
        continue;
      }
      for (Index i = 0; i < in.chosen_count[t]; ++i) {
        if (Index{in.choices(t)[i]} == options_.output && in.weight[t * in.most + i] > 0) sum += 1;
      }
    }
    return in.active_count == 0 ? 0.0 : sum / static_cast<double>(in.active_count);
  }

  Options options_;
};

MOE_NAMESPACE_END
