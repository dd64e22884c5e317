// Stochastic gradient descent, with momentum as PyTorch has it (m = momentum m + g) or Nesterov's.
#pragma once

#include <concepts>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/kernel/arch.hpp"
#include "moe/kernel/math.hpp"
#include "moe/train/concept.hpp"
#include "moe/train/optimiser_state.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

template <class T>
struct SgdRule {
  static constexpr Index kMoments = 0;
  T minus_rate, keep;  // keep = 1 - rate * decay

  template <class V>
  MOE_ALWAYS_INLINE V operator()(const V& w, const V& g, V*) const noexcept {
    return moe::fma(V(minus_rate), g, V(V(keep) * w));
  }
};

template <class T>
struct MomentumRule {
  static constexpr Index kMoments = 1;
  SgdRule<T> plain;
  T momentum;
  bool nesterov;

  template <class V>
  MOE_ALWAYS_INLINE V operator()(const V& w, const V& g, V* moment) const noexcept {
    moment[0] = math::without_subnormal(V(moe::fma(V(momentum), moment[0], g)));
    return plain(w, nesterov ? V(moe::fma(V(momentum), moment[0], g)) : moment[0], moment);
  }
};

}  // namespace impl

/// m = momentum m + g; w -= rate (u + decay w), where u is g without momentum, m with it, and with `nesterov`
/// g + momentum m. With momentum, one number of state for every trained parameter.
template <std::floating_point T = float>
class Sgd {
 public:
  using Real = T;
  struct Options {
    double momentum = 0;  // in [0, 1)
    bool nesterov = false;
    double decay = 0;  // >= 0, times the learning rate
    DecayRule decays = decay_matrices;
  };

  Sgd() : Sgd(Options{}) {}
  /// Throws config_error for an option out of its range, and for Nesterov's rule without momentum.
  explicit Sgd(const Options& options)
      : options_(checked(options)), state_(kMoments, options.momentum > 0 ? 1 : 0) {}

  /// As AdamW's.
  template <TrainedModel Model, Executor X = SerialExecutor>
  requires std::same_as<impl::RealOfModel<Model>, Real>
  void step(Model&& model, double rate, X&& executor = X{}) {
    impl::require_not_negative("learning rate", rate);
    const auto plain = [&](bool matrix, const char* name) {
      const bool decays = options_.decays(name, matrix);
      return impl::SgdRule<Real>{.minus_rate = static_cast<Real>(-rate),
                                 .keep = static_cast<Real>(decays ? 1 - rate * options_.decay : 1.0)};
    };
    if (options_.momentum == 0) {
      state_.step(model, executor,
                  [&](double, bool matrix, const char* name) { return plain(matrix, name); });
    } else {
      state_.step(model, executor, [&](double, bool matrix, const char* name) {
        return impl::MomentumRule<Real>{.plain = plain(matrix, name),
                                        .momentum = static_cast<Real>(options_.momentum),
                                        .nesterov = options_.nesterov};
      });
    }
  }
  template <TrainedModel Model>
  [[nodiscard]] auto state(Model& model) {
    return impl::SavedState<Real, Model>(state_, model);
  }

 private:
  static constexpr const char* kMoments[] = {"momentum"};

  static const Options& checked(const Options& options) {
    if (!(options.momentum >= 0 && static_cast<Real>(options.momentum) < 1)) {
      fail<config_error>("momentum: expected a value in [0, 1), got ", options.momentum);
    }
    if (options.nesterov && options.momentum == 0) {
      fail<config_error>("momentum: expected a value above 0 for Nesterov's rule, got 0");
    }
    impl::require_not_negative("decay", options.decay);
    if (options.decays == nullptr) fail<config_error>("decays: expected a function, got a null pointer");
    return options;
  }

  Options options_;
  impl::OptimiserState<Real> state_;
};

MOE_NAMESPACE_END
