// Balancing without a loss: a bias per output that counts for the selection only, moved between steps towards
// experts with too few tokens. Wang et al. 2408.15664; DeepSeek-V3 2412.19437 section 2.1.2.
#pragma once

#include <span>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/plan/statistics.hpp"
#include "moe/router/balance/concept.hpp"

MOE_NAMESPACE_BEGIN

/// How far a step moves the bias of expert e with c_e choices. m: mean of c. T: tokens of the step.
enum class BiasRule : std::uint8_t {
  sign,          // u * sign(m - c_e), sign(0) = 0
  proportional,  // u * (m - c_e) / T
};

/// Weights never see the bias, and no gradient reaches it. It uses counts of steps that are over, so it keeps
/// a causal model causal.
class SelectionBias {
 public:
  static constexpr const char* kName = "selection_bias";
  struct Options {
    Index outputs = 1;  // N
    Index null_experts =
        0;  // the last of them, whose choices are not counted (RouteStats::load): bias never moves
    double speed = 1e-3;  // u
    BiasRule rule = BiasRule::sign;
    bool decaying = false;  // the n-th step moves by u / n
    bool enabled = true;    // false: no bias, no state
  };

  /// Zero at first. Throws config_error for fewer outputs than 1, as many null experts, or a speed that is
  /// not finite or below 0.
  explicit SelectionBias(Options options) : options_(options) {
    require_range("outputs", options.outputs, 1, INT32_MAX);
    require_range("null experts", options.null_experts, 0, options.outputs - 1);
    set_speed(options.speed);
    bias_.assign(options.outputs, 0);
  }

  const double* selection_bias() const noexcept { return options_.enabled ? bias_.data() : nullptr; }
  std::span<const double> bias() const noexcept {
    return {bias_.data(), static_cast<std::size_t>(bias_.size())};
  }
  /// Throws shape_error unless there are N, numeric_error unless all are finite, config_error if not enabled.
  void set_bias(std::span<const double> values) {
    if (!options_.enabled) fail<config_error>("selection bias: expected none, for it is not enabled");
    require_extent("selection bias", "entries", bias_.size(), static_cast<Index>(values.size()));
    check_finite(values.data());
    bias_.copy_from(values.data(), bias_.size());
  }
  double speed() const noexcept { return options_.speed; }
  /// u of the steps to come; 0 freezes the bias.
  void set_speed(double speed) {
    if (!(speed >= 0 && is_finite(speed)))
      fail<config_error>("bias speed: expected a finite value >= 0, got ", speed);
    options_.speed = speed;
  }

  void check(Index outputs) const {
    impl::require_there("selection bias", !bias_.empty());
    require_extent("selection bias", "outputs", bias_.size(), outputs);
  }

  /// A step without choices changes nothing. Throws shape_error for counts of another number of experts.
  void on_step_end(const RouteStats& stats) {
    if (!options_.enabled) return;
    const Index counted = options_.outputs - options_.null_experts;
    require_extent("statistics", "experts", counted, stats.experts());
    const Index total = stats.pairs();
    if (total == 0) return;
    steps_ += 1;
    const double u = options_.decaying ? options_.speed / steps_ : options_.speed;
    for (Index e = 0; e < counted; ++e) {
      const Index missing = total - counted * stats.load[e];  // counted * (m - c_e), exactly
      if (options_.rule == BiasRule::sign) {
        bias_[e] += missing > 0 ? u : (missing < 0 ? -u : 0.0);
      } else {
        bias_[e] += u * static_cast<double>(missing) / static_cast<double>(counted) /
                    static_cast<double>(stats.tokens);
      }
    }
  }

  /// sum of b_e (c_e - m): by how much the dual of the balanced choice, L(b) = (sum over tokens of their K
  /// best s + b) - m (sum of b), exceeds the sum of the scores s that were chosen with this bias. L(b) is at
  /// least what any balanced choice is worth, so that with equal loads, where the gap is 0, none is worth
  /// more; a step moves the bias down the slope of L. `stats`: of calls that were routed with this bias.
  /// Throws as on_step_end.
  double dual_gap(const RouteStats& stats) const {
    if (!options_.enabled) return 0;
    const Index counted = options_.outputs - options_.null_experts;
    require_extent("statistics", "experts", counted, stats.experts());
    const Index total = stats.pairs();
    double gap = 0;
    for (Index e = 0; e < counted; ++e) {
      gap += bias_[e] * static_cast<double>(counted * stats.load[e] - total);  // counted * (c_e - m), exactly
    }
    return gap / static_cast<double>(counted);
  }

  /// f(name, values, n) with a copy, taken over if all it holds afterwards is finite; otherwise
  /// numeric_error.
  template <class Visitor>
  void visit_state(Visitor& f) {
    if (!options_.enabled) return;
    Buffer<double> copy = bias_;
    double steps = steps_;
    f("e_score_correction_bias", copy.data(), copy.size());
    if (options_.decaying) f("e_score_correction_steps", &steps, Index{1});
    check_finite(copy.data());
    if (!(steps >= 0 && is_finite(steps))) fail<numeric_error>("bias steps: expected a count, got ", steps);
    bias_ = std::move(copy);
    steps_ = steps;
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    if (!options_.enabled) return;
    f("e_score_correction_bias", bias_.data(), bias_.size());
    if (options_.decaying) f("e_score_correction_steps", &steps_, Index{1});
  }

 private:
  void check_finite(const double* values) const {
    for (Index e = 0; e < bias_.size(); ++e) {
      if (!is_finite(values[e])) {
        fail<numeric_error>("selection bias: expected finite values, got ", values[e], " for expert ", e);
      }
    }
  }

  Options options_;
  Buffer<double> bias_;  // [N]
  double steps_ = 0;     // that moved it
};

MOE_NAMESPACE_END
