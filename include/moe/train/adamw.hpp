// AdamW (Loshchilov and Hutter, 1711.05101).
#pragma once

#include <cmath>
#include <concepts>
#include <limits>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/kernel/arch.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/math.hpp"
#include "moe/train/concept.hpp"
#include "moe/train/optimiser_state.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

template <class T>
struct AdamWRule {
  static constexpr Index kMoments = 2;
  T beta1, rest1, beta2, rest2;  // rest = 1 - beta
  T unbias;                      // 1 / sqrt(1 - beta2^t)
  T epsilon;
  T minus_rate;  // over 1 - beta1^t
  T keep;        // 1 - rate * decay

  template <class V>
  MOE_ALWAYS_INLINE V operator()(const V& w, const V& g, V* moment) const noexcept {
    moment[0] = math::without_subnormal(V(moe::fma(V(beta1), moment[0], V(V(rest1) * g))));
    moment[1] = math::without_subnormal(V(moe::fma(V(beta2), moment[1], V(V(V(rest2) * g) * g))));
    const V direction = moment[0] / moe::fma(math::square_root(moment[1]), V(unbias), V(epsilon));
    return moe::fma(V(minus_rate), direction, V(V(keep) * w));
  }
};

}  // namespace impl

/// m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2, and with t steps of this range so far
/// w -= rate (m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon) + decay w).
/// Two numbers of state for every trained parameter. The factors of a step are computed in double.
template <std::floating_point T = float>
class AdamW {
 public:
  using Real = T;
  struct Options {
    double beta1 = 0.9;    // in [0, 1)
    double beta2 = 0.999;  // in [0, 1)
    double epsilon = 1e-8;
    double decay = 0.01;  // >= 0, times the learning rate
    DecayRule decays = decay_matrices;
  };

  AdamW() : AdamW(Options{}) {}
  /// Throws config_error for an option out of its range, in `Real`.
  explicit AdamW(const Options& options) : options_(checked(options)) {}

  /// A step at learning rate `rate`, finite and >= 0. The gradients are used up: 0 afterwards, ready to be
  /// added to. Frozen ranges stay as they are. Before anything is written: config_error for the rate or a
  /// range that is trained twice, state_error for another model's ranges. Allocates when a range is trained
  /// for the first time. The same bits for any executor.
  template <TrainedModel Model, Executor X = SerialExecutor>
  requires std::same_as<impl::RealOfModel<Model>, Real>
  void step(Model&& model, double rate, X&& executor = X{}) {
    impl::require_not_negative("learning rate", rate);
    state_.step(model, executor, [&](double steps, bool matrix, const char* name) {
      return rule(rate, steps, options_.decays(name, matrix));
    });
  }

  /// The state beside `model`, both referred to: for ArchiveWriter::add_layer and Archive::load_layer. A
  /// model and an optimiser loaded so go on with the same bits.
  template <TrainedModel Model>
  [[nodiscard]] auto state(Model& model) {
    return impl::SavedState<Real, Model>(state_, model);
  }

 private:
  static constexpr const char* kMoments[] = {"mean", "mean_square"};

  static const Options& checked(const Options& options) {
    for (const double beta : {options.beta1, options.beta2}) {
      if (!(beta >= 0 && static_cast<Real>(beta) < 1)) {
        fail<config_error>("beta: expected a value in [0, 1), got ", beta);
      }
    }
    if (!(is_finite(options.epsilon) &&
          static_cast<Real>(options.epsilon) >= (std::numeric_limits<Real>::min)())) {
      fail<config_error>("epsilon: expected a finite value above 0, got ", options.epsilon);
    }
    impl::require_not_negative("decay", options.decay);
    if (options.decays == nullptr) fail<config_error>("decays: expected a function, got a null pointer");
    return options;
  }

  impl::AdamWRule<Real> rule(double rate, double steps, bool decays) const {
    // Of beta as the rule has it: both weights of a moment then add up to 1.
    const auto beta1 = static_cast<Real>(options_.beta1), beta2 = static_cast<Real>(options_.beta2);
    const auto rest_of = [](double beta) { return static_cast<Real>(1 - beta); };
    const auto bias_of = [&](double beta) {  // 1 - beta^t, without the cancellation
      return -std::expm1(steps * std::log(beta));
    };
    return {.beta1 = beta1,
            .rest1 = rest_of(beta1),
            .beta2 = beta2,
            .rest2 = rest_of(beta2),
            .unbias = static_cast<Real>(1 / std::sqrt(bias_of(beta2))),
            .epsilon = static_cast<Real>(options_.epsilon),
            .minus_rate = static_cast<Real>(-rate / bias_of(beta1)),
            .keep = static_cast<Real>(decays ? 1 - rate * options_.decay : 1.0)};
  }

  Options options_;
  impl::OptimiserState<Real> state_{kMoments, 2};
};

MOE_NAMESPACE_END
