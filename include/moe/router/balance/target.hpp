// Losses against what the router should have chosen, told by the caller: which experts were right (DriftMoE,
// 2507.18464), which was best (PMOE, Ren et al. 2104.09122).
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "moe/core/column.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/balance/concept.hpp"
#include "moe/router/log_softmax.hpp"

MOE_NAMESPACE_BEGIN

/// How a row of logits l is compared with its targets m.
enum class TargetForm : std::uint8_t {
  sigmoid,        // mean over outputs of the cross-entropy of sigma(l_e) with m_e: any number may be right
  squared,        // sum over outputs of (softmax(l)_e - m_e)^2; targets are distributions
  cross_entropy,  // of softmax(l) with m, likewise
};

struct TargetLossOptions {
  double coefficient = 1;
  TargetForm form = TargetForm::sigmoid;
};

namespace impl {

inline constexpr double kTargetSum = 1e-3;  // bound of a distribution's sum: targets may come as bf16

/// Throws shape_error unless there is a target for each of n outputs, numeric_error for one outside [0, 1]
/// or, of a form over softmaxes, a row that does not sum to 1. `open(t)`: whether row t counts.
template <class Real, class Open>
void check_targets(TargetForm form, const ConstMatrixView<Real>& target, Index tokens, const Open& open) {
  require_extent("target", "rows", tokens, target.rows);
  for (Index t = 0; t < tokens; ++t) {
    if (!open(t)) continue;
    double sum = 0;
    for (Index e = 0; e < target.cols; ++e) {
      if (!(target(t, e) >= 0 && target(t, e) <= 1)) {
        fail<numeric_error>("target: expected values in [0, 1], got ", target(t, e), " for token ", t,
                            ", expert ", e);
      }
      sum += static_cast<double>(target(t, e));
    }
    if (form != TargetForm::sigmoid && !(std::abs(sum - 1) <= kTargetSum)) {
      fail<numeric_error>("target: expected rows that sum to 1, got ", sum, " for token ", t);
    }
  }
}

/// The loss of one row; add(e, d loss / d l_e) for every output that is not masked. What is masked is in no
/// loss.
template <class Real, class Add>
double target_loss_row(TargetForm form, const Real* logit, const Real* target, Index n, const Add& add) {
  const auto l = [logit](Index e) noexcept { return static_cast<double>(logit[e]); };
  const auto m = [target](Index e) noexcept { return static_cast<double>(target[e]); };
  double loss = 0;
  if (form == TargetForm::sigmoid) {
    const double share = 1 / static_cast<double>(n);
    for (Index e = 0; e < n; ++e) {
      if (is_neg_inf(logit[e])) continue;
      const double small = std::exp(-std::abs(l(e)));  // of exp(l) and exp(-l)
      loss += share * ((l(e) > 0 ? l(e) : 0.0) - m(e) * l(e) + std::log1p(small));
      add(e, share * ((l(e) > 0 ? 1 : small) / (1 + small) - m(e)));
    }
    return loss;
  }
  const double all = log_sum_exp(n, l);
  const auto w = [&](Index e) noexcept { return std::exp(l(e) - all); };
  double mean = 0;  // squared: sum of w dloss / dw; cross-entropy: the targets' sum
  for (Index e = 0; e < n; ++e) {
    if (is_neg_inf(logit[e])) continue;
    const double off = w(e) - m(e);
    loss += form == TargetForm::squared ? off * off : m(e) * (all - l(e));
    mean += form == TargetForm::squared ? 2 * off * w(e) : m(e);
  }
  for (Index e = 0; e < n; ++e) {
    if (is_neg_inf(logit[e])) continue;
    add(e, form == TargetForm::squared ? w(e) * (2 * (w(e) - m(e)) - mean) : w(e) * mean - m(e));
  }
  return loss;
}

}  // namespace impl

/// c * mean over tokens of what the form says, between the logits and the column `target` (core/input.hpp),
/// which every training call has to have. It goes to the router alone.
class TargetLoss {
 public:
  static constexpr const char* kName = "target";
  using Options = TargetLossOptions;

  TargetLoss() = default;
  /// Throws config_error for a coefficient that is not finite.
  explicit TargetLoss(Options options) : options_(options) {
    impl::checked_coefficient(kName, options.coefficient);
  }

  const Options& options() const noexcept { return options_; }
  double coefficient() const noexcept { return options_.coefficient; }
  void measure(Arena&, Index, Index) const noexcept {}

  /// Throws config_error for training without the column, and what impl::check_targets throws.
  template <class Real>
  void check_call(const RouterInput<Real>& in) const {
    if (!in.training || options_.coefficient == 0 || in.tokens() == 0) return;
    if (!in.target) fail<config_error>("target: expected targets for the loss ", kName, ", got none");
    impl::check_targets(options_.form, in.target, in.tokens(), [&](Index t) { return in.takes_part(t); });
  }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena&) const {
    double sum = 0;
    for (Index t = 0; t < in.tokens(); ++t) {
      if (in.active[t]) sum += row(in, t, [](Index, double) {});
    }
    return in.active_count == 0 ? 0.0 : options_.coefficient * sum / static_cast<double>(in.active_count);
  }

  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out, Arena&) const {
    const double factor = scale * options_.coefficient / static_cast<double>(in.active_count);
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.active[t]) continue;
      row(in, t, [&](Index e, double d) { out.dlogit(t, e) += static_cast<Real>(factor * d); });
    }
  }

 private:
  template <class Real, class Add>
  double row(const BalanceInput<Real>& in, Index t, const Add& add) const {
    return impl::target_loss_row(options_.form, in.logit.row(t), in.call.target.row(t), in.outputs(), add);
  }

  Options options_;
};

/// The loss of targets that came after their call, and its gradient by that call's logits, which an observer
/// saw (layer/call/observer.hpp). `logit`, `target`, `dlogit` [T, N]; dlogit is overwritten, and is 0 in rows
/// that `labelled` [T] leaves out: they are not read. Throws shape_error for other shapes or memory that
/// dlogit shares, config_error for a coefficient and numeric_error for logits or targets that TargetLoss
/// would refuse.
template <class Real>
double late_target_loss(const TargetLossOptions& options, std::type_identity_t<ConstMatrixView<Real>> logit,
                        std::type_identity_t<ConstMatrixView<Real>> target, const MatrixView<Real>& dlogit,
                        const Column<bool>& labelled = {}) {
  const double coefficient = impl::checked_coefficient(TargetLoss::kName, options.coefficient);
  const auto open = [&](Index t) { return labelled.empty() || labelled[t]; };
  if (!labelled.empty()) {
    require_extent("labelled", "entries", logit.rows, static_cast<Index>(labelled.size()));
  }
  require_shape("target", target, logit.rows, logit.cols);
  require_shape("dlogit", dlogit, logit.rows, logit.cols);
  require_disjoint("logit", logit, "dlogit", dlogit);
  require_disjoint("target", target, "dlogit", dlogit);
  impl::check_targets(options.form, target, logit.rows, open);
  Index count = 0;
  for (Index t = 0; t < logit.rows; ++t) {
    if (!open(t)) continue;
    ++count;
    if (first_bad_logit(logit.row(t), logit.cols) >= 0 || !any_above_neg_inf(logit.row(t), logit.cols)) {
      fail<numeric_error>("logit: expected finite values or -inf (masked), one of them finite, got others ",
                          "for token ", t);
    }
  }
  double sum = 0;
  for (Index t = 0; t < logit.rows; ++t) {
    for (Index e = 0; e < logit.cols; ++e) dlogit(t, e) = 0;
    if (!open(t)) continue;
    const double factor = coefficient / static_cast<double>(count);
    sum += impl::target_loss_row(options.form, logit.row(t), target.row(t), logit.cols,
                                 [&](Index e, double d) { dlogit(t, e) = static_cast<Real>(factor * d); });
  }
  return count == 0 ? 0.0 : coefficient * sum / static_cast<double>(count);
}

MOE_NAMESPACE_END
