// What routing did: the counts exist anyway. Observability for the caller, input of on_step_end for
// balancing.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/plan/dispatch_plan.hpp"
#include "moe/plan/route_table.hpp"

MOE_NAMESPACE_BEGIN

/// Counts of one call, or of many added up (micro-batches, layers), all of the same E. Caller-owned;
/// allocates when E first grows. Those of a layer made of layers are sums, and `layers` has each layer's own.
struct RouteStats {
  Index tokens = 0;                // tokens that took part
  Index dropped = 0;               // pairs that found no place under the capacity policy
  Index elided = 0;                // pairs of null experts
  Index spoiled = 0;               // rows isolated for their logits
  Buffer<Index> load;              // [E] pairs per expert, before the capacity policy
  Buffer<double> gate_mass;        // [E] sum of combine weights
  std::vector<RouteStats> layers;  // of a layer made of layers (depth/): one for each; else empty

  void clear() noexcept {
    tokens = dropped = elided = spoiled = 0;
    load.fill(0);
    gate_mass.fill(0);
    for (RouteStats& own : layers) own.clear();
  }

  Index experts() const noexcept { return load.size(); }

  Index pairs() const noexcept {
    Index sum = 0;
    for (const Index n : load) sum += n;
    return sum;
  }

  /// Throws shape_error unless counts of that many experts may be added: who has counted keeps E until
  /// clear().
  void require_experts(Index count) const {
    if (count == experts() || (tokens == 0 && spoiled == 0 && pairs() == 0)) return;
    fail<shape_error>("statistics: expected ", experts(), " experts, as counted so far, got ", count,
                      "; clear() them first, or keep statistics for each layer");
  }
  /// The same of counts of that many layers. Without `layers`, none have been counted.
  void require_layers(Index count) const {
    const auto counted = static_cast<Index>(layers.size());
    if (counted == 0 || count == counted) return;
    for (const RouteStats& own : layers) {
      if (own.tokens == 0 && own.spoiled == 0 && own.pairs() == 0) continue;
      fail<shape_error>("statistics: expected those of ", counted, " layers, as counted so far, got ", count,
                        "; clear() them first, or keep statistics for each layer");
    }
  }

  /// Adds one call's counts. Throws as require_experts().
  template <class Real>
  void add(const RouteTable<Real>& table, const DispatchPlan<Real>& plan, const bool* valid) {
    require_experts(table.experts);
    if (load.size() != table.experts) {
      gate_mass.assign(table.experts, 0);
      load.assign(table.experts, 0);
      clear();
    }
    for (Index t = 0; t < table.tokens; ++t) {
      if (table.spoiled[t]) {
        ++spoiled;
      } else if (valid == nullptr || valid[t]) {
        ++tokens;
      }
    }
    for (Index p = 0; p < table.pairs(); ++p) {
      ++load[table.expert[p]];
      gate_mass[table.expert[p]] += static_cast<double>(table.weight[p]);
    }
    dropped += plan.dropped_count;
    elided += table.elided;
  }

  /// Adds the counts of another micro-batch or layer, and those of its layers. Throws as require_experts()
  /// and require_layers(), before anything is added.
  void add(const RouteStats& other) {
    require_all(other);
    add_all(other);
  }

  /// Pairs per token.
  double experts_per_token() const noexcept {
    return tokens == 0 ? 0.0 : static_cast<double>(pairs()) / static_cast<double>(tokens);
  }

  /// (max load - mean load) / mean load: MaxVio of arXiv:2408.15664.
  double max_violation() const noexcept {
    if (pairs() == 0) return 0;
    Index highest = 0;
    for (const Index n : load) highest = n > highest ? n : highest;
    return static_cast<double>(highest) / mean() - 1;
  }

  /// Standard deviation of the load (over experts) by its mean.
  double coefficient_of_variation() const noexcept {
    if (pairs() == 0) return 0;
    const double average = mean();
    double squares = 0;
    for (const Index n : load) {
      const double deviation = static_cast<double>(n) - average;
      squares += deviation * deviation;
    }
    return std::sqrt(squares / static_cast<double>(experts())) / average;
  }

  /// Entropy of the load in nats: log E when balanced, 0 when one expert has everything.
  double entropy() const noexcept {
    const auto total = static_cast<double>(pairs());
    double h = 0;
    for (const Index n : load) {
      if (n > 0) h -= static_cast<double>(n) / total * std::log(static_cast<double>(n) / total);
    }
    return h;
  }

 private:
  /// f(layer of this, layer of other).
  template <class Self, class F>
  static void each_pair(Self& self, const RouteStats& other, const F& f) {
    for (std::size_t i = 0; i < other.layers.size() && i < self.layers.size(); ++i) {
      f(self.layers[i], other.layers[i]);
    }
  }
  void require_all(const RouteStats& other) const {
    if (!other.load.empty()) require_experts(other.experts());
    if (other.layers.empty()) return;
    require_layers(static_cast<Index>(other.layers.size()));
    if (layers.size() == other.layers.size()) {
      each_pair(*this, other, [](const RouteStats& own, const RouteStats& more) { own.require_all(more); });
    }
  }
  void add_all(const RouteStats& other) {
    if (!other.layers.empty()) {
      layers.resize(other.layers.size());
      each_pair(*this, other, [](RouteStats& own, const RouteStats& more) { own.add_all(more); });
    }
    if (other.load.empty()) return;
    if (experts() != other.experts()) {
      load.assign(other.experts(), 0);
      gate_mass.assign(other.experts(), 0);
      tokens = dropped = elided = spoiled = 0;
    }
    tokens += other.tokens;
    dropped += other.dropped;
    elided += other.elided;
    spoiled += other.spoiled;
    for (Index e = 0; e < experts(); ++e) {
      load[e] += other.load[e];
      gate_mass[e] += other.gate_mass[e];
    }
  }

  double mean() const noexcept { return static_cast<double>(pairs()) / static_cast<double>(experts()); }
};

MOE_NAMESPACE_END
