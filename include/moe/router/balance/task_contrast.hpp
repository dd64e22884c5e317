// Contrast of tasks: segments of one task have the same router vector, those of others another. T2MIR,
// 2506.05426.
#pragma once

#include <cmath>
#include <limits>

#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/balance/concept.hpp"
#include "moe/router/log_softmax.hpp"
#include "moe/router/vector_length.hpp"

MOE_NAMESPACE_BEGIN

/// c * mean over segments s that have another one of their task (column `task`, of the segment's first row
/// that takes part) of -(1 / |P_s|) sum over p in P_s, the others of its task, of ln(exp(cos(z_s, z_p) / tau)
/// / sum over k != s of exp(cos(z_s, z_k) / tau)): z_s the direction of the mean of the logits of the
/// segment's rows, masked ones counted as 0. Segments are all of the call's. Both sides are the live router's
/// and have a gradient; the paper's slowly following one is not there.
class TaskContrast {
 public:
  static constexpr const char* kName = "task_contrast";
  struct Options {
    double coefficient = 0.1;
    double tau = 0.1;
  };

  TaskContrast() = default;
  /// Throws config_error for a coefficient that is not finite, or a tau that is not positive and finite.
  explicit TaskContrast(Options options) : options_(options) {
    impl::checked_coefficient(kName, options.coefficient);
    if (!(options.tau > 0 && is_finite(options.tau))) {
      fail<config_error>("task contrast tau: expected a finite value > 0, got ", options.tau);
    }
  }

  double coefficient() const noexcept { return options_.coefficient; }
  /// Of calls in training.
  template <class Real>
  void check_call(const RouterInput<Real>& in) const {
    if (in.training && options_.coefficient != 0 && in.tokens() > 0 && in.task.empty()) {
      fail<config_error>("task: expected ", in.tokens(), " tasks, one for each row, got none");
    }
  }
  void measure(Arena& arena, Index tokens, Index outputs) const { Scratch{arena, tokens, outputs}; }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena& arena) const {
    const Scratch s = formed(in, arena);
    double sum = 0;
    for (Index i = 0; i < s.segments; ++i) {
      const Index positives = log_shares(s, i);
      for (Index k = 0; k < s.segments; ++k) {
        if (s.same(i, k)) sum -= s.share[k] / static_cast<double>(positives);
      }
    }
    return s.anchors == 0 ? 0.0 : options_.coefficient * sum / static_cast<double>(s.anchors);
  }

  /// d / d cos(z_s, z_k) = (q_k - [k in P_s] / |P_s|) / tau, q the shares; d cos / d z_s = (u_k - cos u_s) /
  /// |z_s| with u = z / |z|, and likewise of z_k.
  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out,
                Arena& arena) const {
    const Scratch s = formed(in, arena);
    if (s.anchors == 0) return;
    for (Index j = 0; j < s.segments * s.n; ++j) s.dz[j] = 0;
    const double unit = scale * options_.coefficient / options_.tau / static_cast<double>(s.anchors);
    for (Index i = 0; i < s.segments; ++i) {
      const Index positives = log_shares(s, i);
      for (Index k = 0; positives > 0 && k < s.segments; ++k) {
        if (k == i) continue;
        const double d =
            unit * (std::exp(s.share[k]) - (s.same(i, k) ? 1.0 / static_cast<double>(positives) : 0.0));
        const double cosine = s.cosine(i, k);
        for (Index e = 0; e < s.n; ++e) {
          const double a = s.z[i * s.n + e], b = s.z[k * s.n + e];
          s.dz[i * s.n + e] += d * (b - cosine * a) / s.length[i];
          s.dz[k * s.n + e] += d * (a - cosine * b) / s.length[k];
        }
      }
    }
    for (Index t = 0; t < in.tokens(); ++t) {
      if (!in.active[t]) continue;
      const Index i = s.of_row[t];
      for (Index e = 0; e < s.n; ++e) {
        if (is_open(in, t, e)) out.dlogit(t, e) += static_cast<Real>(s.dz[i * s.n + e]);
      }
    }
  }

 private:
  struct Scratch {
    double* z;           // [S, N] z / |z|
    double* dz;          // [S, N]
    double* length;      // [S] |z|, of a sum of rows
    double* share;       // [S] logarithms, of one segment
    std::int32_t* task;  // [S]
    Index* of_row;       // [T] segment among those with rows
    Index n, segments = 0, anchors = 0;
    Scratch(Arena& arena, Index tokens, Index outputs)
        : z(arena.take<double>(checked_product("router vectors", tokens, outputs))),
          dz(arena.take<double>(tokens * outputs)),
          length(arena.take<double>(tokens)),
          share(arena.take<double>(tokens)),
          task(arena.take<std::int32_t>(tokens)),
          of_row(arena.take<Index>(tokens)),
          n(outputs) {}
    bool same(Index i, Index k) const noexcept { return i != k && task[i] == task[k]; }
    double cosine(Index i, Index k) const noexcept { return dot(z + i * n, z + k * n, n); }
  };

  template <class Real>
  static bool is_open(const BalanceInput<Real>& in, Index t, Index e) noexcept {
    return in.logit(t, e) > -std::numeric_limits<Real>::infinity();
  }

  /// Unit vectors of the segments that have rows, and how many have another of their task.
  template <class Real>
  Scratch formed(const BalanceInput<Real>& in, Arena& arena) const {
    Scratch s(arena, in.tokens(), in.outputs());
    const Segments& segments = in.call.segments;
    for (Index segment = 0; segment < segments.count(in.tokens()); ++segment) {
      const Index i = s.segments;
      Index rows = 0;
      for (Index t = segments.begin(segment); t < segments.end(segment, in.tokens()); ++t) {
        if (!in.active[t]) continue;
        for (Index e = 0; e < s.n; ++e) {
          const double logit = is_open(in, t, e) ? static_cast<double>(in.logit(t, e)) : 0.0;
          s.z[i * s.n + e] = rows == 0 ? logit : s.z[i * s.n + e] + logit;
        }
        if (rows == 0) s.task[i] = in.call.task[t];
        s.of_row[t] = i;
        ++rows;
      }
      if (rows == 0) continue;
      s.length[i] = impl::length_of(s.z + i * s.n, s.n);  // of the sum: the mean's direction
      for (Index e = 0; e < s.n; ++e) s.z[i * s.n + e] /= s.length[i];
      ++s.segments;
    }
    for (Index i = 0; i < s.segments; ++i) {
      Index others = 0;
      for (Index k = 0; k < s.segments; ++k) others += s.same(i, k) ? 1 : 0;
      s.anchors += others > 0 ? 1 : 0;
    }
    return s;
  }

  /// ln softmax over k != i of cos / tau, -inf at i. Returns how many have i's task.
  Index log_shares(const Scratch& s, Index i) const noexcept {
    Index positives = 0;
    for (Index k = 0; k < s.segments; ++k) {
      positives += s.same(i, k) ? 1 : 0;
      s.share[k] = k == i ? -std::numeric_limits<double>::infinity() : s.cosine(i, k) / options_.tau;
    }
    if (positives > 0) impl::log_softmax_row(s.share, s.segments);
    return positives;
  }

  Options options_{};
};

MOE_NAMESPACE_END
