// What makes a layer choose its own experts of a pool that others share: its scores are drawn to a number of
// experts, until it is told which are its own. UniPool-lock, Huang et al. 2605.06665.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/column.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/workspace.hpp"
#include "moe/router/balance/concept.hpp"

MOE_NAMESPACE_BEGIN

/// c (H - ln M)^2 / L: H the entropy of the shares of the layer's mean scores (which are not below 0), M how
/// many experts it is to have, L the layers of the pool. Outputs without any score have no gradient.
///
/// lock() hides the other layers' experts from the selection; what becomes of their scores is the score's
/// affair (NormScore::set_factor()). State "pool_lock.open" [N], 1 or 0.
class PoolLock {
 public:
  static constexpr const char* kName = "pool_lock";
  struct Options {
    Index outputs = 0;       // N
    Index layers = 1;        // L
    double own = 1;          // M
    double coefficient = 0;  // c: 5e-3 at the end of a warm-up, see set_coefficient()
  };

  /// Throws config_error for sizes below 1, M outside [1, N] or a coefficient that is not finite.
  explicit PoolLock(Options options) : options_(options) {
    require_range("outputs of a pool", options.outputs, 1, INT32_MAX);
    require_range("layers of a pool", options.layers, 1, INT32_MAX);
    if (!(options.own >= 1 && options.own <= static_cast<double>(options.outputs))) {
      fail<config_error>("experts of a layer: expected a number in [1, ", options.outputs, "], got ",
                         options.own);
    }
    set_coefficient(options.coefficient);
    bias_.assign(options.outputs, 0.0);
  }

  double coefficient() const noexcept { return options_.coefficient; }
  /// Of the calls to come. Throws config_error for one that is not finite.
  void set_coefficient(double coefficient) {
    options_.coefficient = impl::checked_coefficient(kName, coefficient);
  }
  void check(Index outputs) const {
    impl::require_there(kName, !bias_.empty());
    require_extent(kName, "outputs", outputs, bias_.size());
  }
  void measure(Arena& arena, Index, Index outputs) const { arena.take<double>(outputs); }

  /// 0, or -inf for outputs that are locked out.
  const double* selection_bias() const noexcept { return bias_.data(); }
  bool open(Index e) const noexcept { return bias_[e] == 0; }
  /// `own` [N]; empty: all. Throws shape_error, config_error if none is.
  void lock(const Column<bool>& own) {
    bool any = own.empty();
    if (!own.empty()) require_extent("own", "entries", bias_.size(), static_cast<Index>(own.size()));
    for (Index e = 0; !any && e < bias_.size(); ++e) any = own[e];
    if (!any) fail<config_error>("own: expected a layer with an expert of its own, got none");
    for (Index e = 0; e < bias_.size(); ++e) bias_[e] = own.empty() || own[e] ? 0 : kOut;
  }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena& arena) const {
    double* const share = arena.take<double>(in.outputs());
    const double off = shares(in, share).entropy - std::log(options_.own);
    return in.active_count == 0 ? 0 : factor() * off * off;
  }
  /// dH / d(mean score of e) = -(ln p_e + H) / (sum of the mean scores).
  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out,
                Arena& arena) const {
    double* const share = arena.take<double>(in.outputs());
    const Found found = shares(in, share);
    if (!(found.sum > 0)) return;
    const double each = scale * factor() * 2 * (found.entropy - std::log(options_.own)) / found.sum;
    for (Index e = 0; e < in.outputs(); ++e) {
      const double d = share[e] > 0 ? -each * (std::log(share[e]) + found.entropy) : 0;
      for (Index t = 0; d != 0 && t < in.tokens(); ++t) {
        if (in.active[t]) out.dscore(t, e) += static_cast<Real>(d);
      }
    }
  }

  /// f(name, values, n) with a copy, taken over if it holds a 1 for some output and else 0; otherwise
  /// numeric_error.
  template <class Visitor>
  void visit_state(Visitor& f) {
    Buffer<double> open = opened();
    f("pool_lock.open", open.data(), open.size());
    bool any = false;
    for (const double o : open) {
      if (!(o == 0 || o == 1)) fail<numeric_error>("pool_lock.open: expected 0 or 1, got ", o);
      any = any || o == 1;
    }
    if (!any) fail<numeric_error>("pool_lock.open: expected a 1, got none");
    for (Index e = 0; e < open.size(); ++e) bias_[e] = open[e] == 1 ? 0 : kOut;
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    const Buffer<double> open = opened();
    f("pool_lock.open", open.data(), open.size());
  }

 private:
  static constexpr double kOut = -std::numeric_limits<double>::infinity();
  struct Found {
    double sum = 0;  // of the scores of all rows that take part
    double entropy = 0;
  };

  double factor() const noexcept { return options_.coefficient / static_cast<double>(options_.layers); }
  Buffer<double> opened() const {
    Buffer<double> open(bias_.size());
    for (Index e = 0; e < bias_.size(); ++e) open[e] = bias_[e] == 0 ? 1 : 0;
    return open;
  }
  /// `share` [N]: of the sum.
  template <class Real>
  static Found shares(const BalanceInput<Real>& in, double* share) noexcept {
    Found found;
    for (Index e = 0; e < in.outputs(); ++e) share[e] = 0;
    for (Index t = 0; t < in.tokens(); ++t) {
      for (Index e = 0; in.active[t] && e < in.outputs(); ++e)
        share[e] += static_cast<double>(in.score(t, e));
    }
    for (Index e = 0; e < in.outputs(); ++e) found.sum += share[e];
    for (Index e = 0; found.sum > 0 && e < in.outputs(); ++e) {
      share[e] /= found.sum;
      if (share[e] > 0) found.entropy -= share[e] * std::log(share[e]);
    }
    return found;
  }

  Options options_;
  Buffer<double> bias_;  // [N]
};

MOE_NAMESPACE_END
