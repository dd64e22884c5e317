// Contrast of prototypes: an expert's prototype points to the mean of its tokens and away from those of
// others. ProMoE, 2510.24711.
#pragma once

#include <cmath>
#include <concepts>

#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/router/balance/concept.hpp"
#include "moe/router/log_softmax.hpp"
#include "moe/router/vector_length.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// A scorer whose directions [N, D] are compared with the rows themselves (CosineScorer without a
/// projection).
template <class S>
concept PrototypeScorer = requires(const S& s, typename S::Gradients& g) {
  { s.projected() } -> std::convertible_to<Index>;
  { s.directions() } -> std::convertible_to<const typename S::Real*>;
  { s.directions_of(g) } -> std::convertible_to<typename S::Real*>;
};

/// The scorer itself, or what its wrappers hold in the end.
template <class S>
requires(PrototypeScorer<S> || requires(const S& s) { s.inner(); })  //
    const auto& prototypes_of(const S& scorer) noexcept {
  if constexpr (PrototypeScorer<S>) {
    return scorer;
  } else {
    return prototypes_of(scorer.inner());
  }
}

}  // namespace impl

/// c * mean over experts e that got tokens of -ln(exp(cos(m_e, P_e) / tau) / sum_j exp(cos(m_e, P_j) / tau)):
/// m_e the mean of the rows that chose e, P the prototypes, j over the first `leading` outputs, as e. m has
/// no gradient (our choice, as are the skipped experts): the loss moves prototypes only. It reads the scorer.
class PrototypeContrast {
 public:
  static constexpr const char* kName = "prototype_contrast";
  struct Options {
    double coefficient = 0.1;
    double tau = 0.1;
    Index width = 1;    // D
    Index leading = 0;  // outputs that have prototypes of their own; 0: all
  };

  /// Throws config_error for a coefficient that is not finite, a tau that is not positive and finite, or a
  /// width below 1.
  explicit PrototypeContrast(Options options) : options_(options) {
    impl::checked_coefficient(kName, options.coefficient);
    if (!(options.tau > 0 && is_finite(options.tau))) {
      fail<config_error>("prototype tau: expected a finite value > 0, got ", options.tau);
    }
    require_range("width", options.width, 1, INT32_MAX);
  }

  double coefficient() const noexcept { return options_.coefficient; }
  void check(Index outputs) const { require_range("leading outputs", options_.leading, 0, outputs); }
  template <class Real>
  void check_call(const RouterInput<Real>& in) const {
    require_extent("prototype contrast", "columns", options_.width, in.x.cols);
  }
  void measure(Arena& arena, Index, Index outputs) const { Scratch{arena, leading(outputs), options_.width}; }

  template <class Real, class Scorer>
  requires requires(const Scorer& s) { impl::prototypes_of(s); }
  double forward(const BalanceInput<Real>& in, const Scorer& scorer, Arena& arena) const {
    const Scratch s = formed(in, impl::prototypes_of(scorer), arena);
    double sum = 0;
    for (Index e = 0; e < s.n; ++e) {
      if (s.count[e] > 0) sum -= log_share(s, e)[e];
    }
    return s.used == 0 ? 0.0 : options_.coefficient * sum / static_cast<double>(s.used);
  }

  /// d / d cos(m_e, P_j) = (q_j - [j = e]) / tau, q the shares; d cos / d P = (m / |m| - cos P / |P|) / |P|.
  template <class Real, class Scorer>
  requires requires(const Scorer& s) { impl::prototypes_of(s); }
  void backward(const BalanceInput<Real>& in, const Scorer& scorer, double scale,
                const BalanceGradients<Real>&, typename Scorer::Gradients* gradients, Arena& arena) const {
    if (gradients == nullptr) return;
    const auto& prototypes = impl::prototypes_of(scorer);
    const Scratch s = formed(in, prototypes, arena);
    Real* const out = prototypes.directions_of(*gradients);
    for (Index e = 0; e < s.n; ++e) {
      if (s.count[e] == 0) continue;
      const double* const log_q = log_share(s, e);
      for (Index j = 0; j < s.n; ++j) {
        const double cosine = dot(s.mean + e * s.width, s.unit + j * s.width, s.width);
        const double d = scale * options_.coefficient * (std::exp(log_q[j]) - (j == e ? 1.0 : 0.0)) /
                         options_.tau / static_cast<double>(s.used) / s.length[j];
        for (Index i = 0; i < s.width; ++i) {
          out[j * s.width + i] +=
              static_cast<Real>(d * (s.mean[e * s.width + i] - cosine * s.unit[j * s.width + i]));
        }
      }
    }
  }

 private:
  struct Scratch {
    double* unit;    // [L, D] P / |P|
    double* length;  // [L] |P|
    double* mean;    // [L, D] m / |m|
    double* share;   // [L] logarithms, of one expert
    Index* count;    // [L] rows
    Index n, width, used = 0;
    Scratch(Arena& arena, Index leading, Index columns)
        : unit(arena.take<double>(checked_product("prototypes", leading, columns))),
          length(arena.take<double>(leading)),
          mean(arena.take<double>(leading * columns)),
          share(arena.take<double>(leading)),
          count(arena.take<Index>(leading)),
          n(leading),
          width(columns) {}
  };

  Index leading(Index outputs) const noexcept { return options_.leading == 0 ? outputs : options_.leading; }
  /// The vector over its length, which it returns.
  static double make_unit(double* v, Index n) noexcept {
    const double length = impl::length_of(v, n);
    for (Index i = 0; i < n; ++i) v[i] /= length;
    return length;
  }

  template <class Real, class Prototypes>
  Scratch formed(const BalanceInput<Real>& in, const Prototypes& prototypes, Arena& arena) const {
    require_extent("prototypes", "columns", options_.width, prototypes.projected());
    Scratch s(arena, leading(in.outputs()), options_.width);
    for (Index j = 0; j < s.n * s.width; ++j) {
      s.unit[j] = static_cast<double>(prototypes.directions()[j]);
      s.mean[j] = 0;
    }
    for (Index e = 0; e < s.n; ++e) s.count[e] = 0;
    for (Index t = 0; t < in.tokens(); ++t) {
      for (Index i = 0; in.active[t] && i < in.chosen_count[t]; ++i) {
        const Index e = in.choices(t)[i];
        if (e >= s.n) continue;
        ++s.count[e];
        for (Index j = 0; j < s.width; ++j) s.mean[e * s.width + j] += static_cast<double>(in.call.x(t, j));
      }
    }
    for (Index e = 0; e < s.n; ++e) {
      s.length[e] = make_unit(s.unit + e * s.width, s.width);
      make_unit(s.mean + e * s.width, s.width);  // of the sum: the mean's direction
      s.used += s.count[e] > 0 ? 1 : 0;
    }
    return s;
  }
  /// ln softmax over j of cos(m_e, P_j) / tau.
  const double* log_share(const Scratch& s, Index e) const noexcept {
    for (Index j = 0; j < s.n; ++j) {
      s.share[j] = dot(s.mean + e * s.width, s.unit + j * s.width, s.width) / options_.tau;
    }
    impl::log_softmax_row(s.share, s.n);
    return s.share;
  }

  Options options_;
};

MOE_NAMESPACE_END
