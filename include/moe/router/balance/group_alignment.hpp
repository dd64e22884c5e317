// Alignment of a row's best experts with its group: experts of other groups that are more likely than the
// last one chosen are paid for. SAM, Jiang et al. 2110.07431.
#pragma once

#include "moe/core/check.hpp"
#include "moe/router/balance/concept.hpp"
#include "moe/router/expert_blocks.hpp"

MOE_NAMESPACE_BEGIN

/// c * mean over tokens of sum over outputs j outside the group of the first choice of max(p_j - p_last, 0),
/// p_last the probability of the last choice. 0 where the k most likely are all in that group.
class GroupAlignment {
 public:
  static constexpr const char* kName = "group_alignment";

  struct Options {
    double coefficient = 0.01;
    Index groups = 1;  // equal blocks of ids
  };

  /// Throws config_error for fewer groups than 1 or a coefficient that is not finite.
  explicit GroupAlignment(Options options) : options_(options) {
    impl::checked_coefficient(kName, options.coefficient);
    require_range("groups", options.groups, 1, INT32_MAX);
  }

  double coefficient() const noexcept { return options_.coefficient; }
  void check(Index outputs) const { impl::require_blocks("groups", options_.groups, outputs); }
  void measure(Arena&, Index, Index) const noexcept {}

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena&) const {
    double sum = 0;
    each_excess(in, [&](Index t, Index e, Index last) {
      sum += static_cast<double>(in.probability(t, e)) - static_cast<double>(in.probability(t, last));
    });
    return in.active_count == 0 ? 0.0 : options_.coefficient * sum / static_cast<double>(in.active_count);
  }
  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out, Arena&) const {
    const auto slope = static_cast<Real>(scale * options_.coefficient / static_cast<double>(in.active_count));
    each_excess(in, [&](Index t, Index e, Index last) {
      out.dprobability(t, e) += slope;
      out.dprobability(t, last) -= slope;
    });
  }

 private:
  /// f(token, output outside the token's group, last choice) where the output is the likelier of the two.
  template <class Real, class F>
  void each_excess(const BalanceInput<Real>& in, F&& f) const {
    const Index size = in.outputs() / options_.groups;
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.active[t] || in.chosen_count[t] == 0) continue;
      const Index group = in.choices(t)[0] / size, last = in.choices(t)[in.chosen_count[t] - 1];
      for (Index e = 0; e < in.outputs(); ++e) {
        if (e / size != group && in.probability(t, e) > in.probability(t, last)) f(t, e, last);
      }
    }
  }

  Options options_;
};

MOE_NAMESPACE_END
