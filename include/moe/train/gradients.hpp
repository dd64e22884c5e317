// Gradients between backward and the optimiser: their norm, clipping, scaling, zero. backward adds to them,
// so a batch may come in parts: of n micro-batches whose losses are means, scale_gradients(model, 1.0 / n)
// makes the mean of all.
#pragma once

#include <algorithm>
#include <cmath>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/train/concept.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// Ranges are worked on in stretches that depend on their length alone, so that sums do not depend on
/// threads.
inline constexpr Index kMostStretches = 256;

inline Index stretch_of(Index n) noexcept {
  constexpr Index kLeast = 8192;  // a task of some microseconds
  return (std::max)(kLeast, round_up(ceil_div(n, kMostStretches), kAlignment));
}

/// f(first, count, stretch) for the stretches of [0, n).
template <class X, class F>
void for_stretches(Index n, X& executor, const F& f) {
  const Index stretch = stretch_of(n);
  executor.parallel_for(ceil_div(n, stretch), [&](Index i, Index) noexcept {
    f(i * stretch, (std::min)(stretch, n - i * stretch), i);
  });
}

/// Lets the model throw for gradients that do not fit it, before anything is written.
template <class Model>
void check_gradients(Model& model) {
  model.visit_storage([](const char*, const auto*, const auto*, Index) {});
}

/// Sum of squares; those of floats are exact.
template <class Real>
MOE_NOINLINE double sum_of_squares(const Real* x, Index n) noexcept {
  constexpr Index kChains = 32;
  double sum[kChains] = {};
  for (Index j = 0; j + kChains <= n; j += kChains) {
    for (Index i = 0; i < kChains; ++i) {
      sum[i] += static_cast<double>(x[j + i]) * static_cast<double>(x[j + i]);
    }
  }
  for (Index j = n / kChains * kChains, i = 0; j < n; ++j, ++i) {
    sum[i] += static_cast<double>(x[j]) * static_cast<double>(x[j]);
  }
  for (Index half = kChains / 2; half > 0; half /= 2) {
    for (Index i = 0; i < half; ++i) sum[i] += sum[half + i];
  }
  return sum[0];
}

/// f(name, sum of squares) of every range's gradients.
template <class Model, class X, class F>
void visit_gradient_squares(Model& model, X& executor, const F& f) {
  using Real = RealOfModel<Model>;
  model.visit_storage([&](const char* name, Real*, Real* gradients, Index n) {
    if (gradients == nullptr) return;
    double part[kMostStretches];
    for_stretches(n, executor, [&](Index first, Index count, Index stretch) noexcept {
      part[stretch] = sum_of_squares(gradients + first, count);
    });
    double sum = 0;
    for (Index i = 0; i * stretch_of(n) < n; ++i) sum += part[i];
    f(name, sum);
  });
}

}  // namespace impl

/// Euclidean norm of all gradients together, summed in double in an order that depends on the model alone:
/// the same bits for any executor. NaN or infinite where a gradient is (of doubles also where a square
/// overflows).
template <TrainedModel Model, Executor X = SerialExecutor>
[[nodiscard]] double global_norm(Model&& model, X&& executor = X{}) {
  double squares = 0;
  impl::visit_gradient_squares(model, executor, [&](const char*, double sum) { squares += sum; });
  return std::sqrt(squares);
}

/// gradients *= factor. Throws config_error for a factor that is not finite.
template <TrainedModel Model, Executor X = SerialExecutor>
void scale_gradients(Model&& model, double factor, X&& executor = X{}) {
  using Real = impl::RealOfModel<Model>;
  if (!is_finite(factor)) fail<config_error>("gradient scale: expected a finite factor, got ", factor);
  impl::check_gradients(model);
  model.visit_storage([&](const char*, Real*, Real* gradients, Index n) {
    if (gradients == nullptr) return;
    impl::for_stretches(n, executor, [&](Index first, Index count, Index) noexcept {
      scale_row(static_cast<Real>(factor), gradients + first, gradients + first, count);
    });
  });
}

/// gradients = 0. An optimiser's step does it as well; this is for gradients that are thrown away.
template <TrainedModel Model, Executor X = SerialExecutor>
void zero_gradients(Model&& model, X&& executor = X{}) {
  using Real = impl::RealOfModel<Model>;
  impl::check_gradients(model);
  model.visit_storage([&](const char*, Real*, Real* gradients, Index n) {
    if (gradients == nullptr) return;
    impl::for_stretches(n, executor, [&](Index first, Index count, Index) noexcept {
      fill_row(Real{0}, gradients + first, count);
    });
  });
}

/// Scales the gradients so that their norm is at most `most`; returns the norm they had. Throws numeric_error
/// naming a range whose gradients are not finite, and config_error unless `most` is positive and finite;
/// nothing is scaled then.
template <TrainedModel Model, Executor X = SerialExecutor>
double clip_by_global_norm(Model&& model, double most, X&& executor = X{}) {
  if (!(most > 0 && is_finite(most))) {
    fail<config_error>("gradient norm: expected a positive finite limit, got ", most);
  }
  double squares = 0;
  impl::visit_gradient_squares(model, executor, [&](const char* name, double sum) {
    if (!is_finite(sum)) {
      fail<numeric_error>("gradients of ", name, ": expected finite numbers, got squares that add up to ",
                          sum);
    }
    squares += sum;
  });
  const double norm = std::sqrt(squares);
  if (norm > most) scale_gradients(model, most / norm, executor);
  return norm;
}

MOE_NAMESPACE_END
