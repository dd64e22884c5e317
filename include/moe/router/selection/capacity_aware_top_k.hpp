// A top-k at inference that keeps the slowest expert from deciding how long a layer takes: no expert gets
// more rows than its capacity, the least likely ones are dropped, and rows may be handed to experts that have
// room. He et al. 2503.05066, "Capacity-aware inference: mitigating the straggler effect in mixture of
// experts".
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/top_k.hpp"
#include "moe/router/expert_blocks.hpp"
#include "moe/router/selection/concept.hpp"

MOE_NAMESPACE_BEGIN

/// In every segment an expert takes of its candidates the C = ceil(factor * k * (active rows) / N) of highest
/// choice score (equal ones: the lower row), which never limits a row that is alone.
/// - Token drop: a row is a candidate of its k best experts.
/// - Token reroute (rounds > 1): then the places that are left go to rows with less than k experts, to those
///   of highest score that have the expert as choice k + 1, then k + 2, ..., ceil(rounds * k).
/// - Expanded drop (devices > 0): a row that is not alone is a candidate of its k best and of all experts on
///   its own device (column `device`; devices are equal blocks of ids), and may end with more than k.
/// Rows may end with fewer experts than k, or none.
class CapacityAwareTopK {
 public:
  static constexpr const char* kName = "capacity_aware_top_k";
  struct Options {
    Index k = 1;
    double capacity_factor = 1;  // gamma
    double rounds = 1;
    Index devices = 0;
  };

  static constexpr Coupling coupling(bool) noexcept { return Coupling::per_segment; }

  /// Throws config_error for k < 1, a factor outside (0, 1e9], rounds outside [1, 1e9], devices below 0, or
  /// both of rounds and devices.
  explicit CapacityAwareTopK(Options options) : options_(options) {
    require_range("experts per token", options.k, 1, INT32_MAX);
    require_range("devices", options.devices, 0, INT32_MAX);
    impl::check_capacity_factor(options.capacity_factor);
    if (!(options.rounds >= 1 && options.rounds <= 1e9)) {
      fail<config_error>("rounds: expected a value in [1, 1e9], got ", options.rounds);
    }
    if (options.rounds > 1 && options.devices > 0) {
      fail<config_error>("rounds: expected 1 where rows expand to the experts of their device, got ",
                         options.rounds);
    }
  }
  const Options& options() const noexcept { return options_; }

  void check(Index outputs) const {
    if (options_.devices > 0) impl::require_blocks("devices", options_.devices, outputs);
  }
  template <class Real>
  void check_call(const RouterInput<Real>& in) const {
    impl::refuse_option("threshold", in.options.threshold, "the selection ", kName);
    impl::refuse_option("p", in.options.p, "the selection ", kName);
    if (options_.devices > 0) impl::check_device_column(in, options_.devices);
  }

  /// C.
  static Index capacity(Index active, Index k, double factor, Index outputs) noexcept {
    const double places = factor * static_cast<double>(k * active) / static_cast<double>(outputs);
    return static_cast<Index>((std::min)(std::ceil(places), static_cast<double>(active)));
  }

  /// T k, or, expanded, all places there are.
  Index max_pairs(const CallShape& shape, Index outputs) const {
    const Index k = experts_of(shape.options, outputs);
    const double factor = factor_of(shape.options);
    if (options_.devices == 0) return checked_product("routed pairs", shape.tokens, k);
    const Index all = checked_product("routed pairs", shape.tokens, outputs);
    const double bound =
        factor * static_cast<double>(shape.tokens) * static_cast<double>(k) +
        static_cast<double>((std::min)(shape.segments, shape.tokens)) * static_cast<double>(outputs);
    return bound < static_cast<double>(all) ? static_cast<Index>(bound) + 1 : all;
  }
  void measure(Arena& arena, Index tokens, Index outputs) const { Scratch{arena, tokens, outputs}; }

  template <class Real, Executor X>
  void select_set(const SetCall<Real>& set, ExpertId* chosen, Index* count, Arena& arena, X& executor) const {
    const Index tokens = set.choice.rows, n = set.choice.cols;
    const Index k = experts_of(set.call.options, n);
    const double factor = factor_of(set.call.options);
    const Scratch scratch(arena, tokens, n);
    const Segments& segments = set.call.segments;
    for (Index s = 0; s < segments.count(tokens); ++s) {
      Index active = 0;
      for (Index t = segments.begin(s); t < segments.end(s, tokens); ++t) active += set.active[t] ? 1 : 0;
      for (Index t = segments.begin(s); t < segments.end(s, tokens); ++t) scratch.active[t] = active;
    }
    const bool expands = options_.devices > 0;
    const double wanted = std::ceil(options_.rounds * static_cast<double>(k));
    const Index ranks = expands || wanted > static_cast<double>(n) ? n : static_cast<Index>(wanted);
    executor.parallel_for(ceil_div(tokens, kTokens), [&](Index block, Index) noexcept {
      for (Index t = block * kTokens; t < tokens && t < (block + 1) * kTokens; ++t) {
        ExpertId* const ranked = scratch.ranked + t * n;
        bool* const wants = scratch.wants + t * n;
        for (Index e = 0; e < n; ++e) wants[e] = false;
        if (!set.active[t]) continue;
        top_k_row(set.choice.row(t), n, ranks, ranked);
        for (Index r = 0; r < k; ++r) wants[ranked[r]] = !is_neg_inf(set.choice(t, ranked[r]));
        if (!expands || scratch.active[t] < 2) continue;
        const impl::LocalOutputs local(set.call, t, options_.devices, n);
        for (Index e = local.first; e < local.last; ++e) wants[e] = !is_neg_inf(set.choice(t, e));
      }
    });
    executor.parallel_for(n, [&](Index e, Index) noexcept {
      for (Index s = 0; s < segments.count(tokens); ++s) {
        const Index first = segments.begin(s), last = segments.end(s, tokens);
        if (first < last) drop(set, scratch, e, first, last, capacity(scratch.active[first], k, factor, n));
      }
    });
    if (options_.rounds > 1) reroute(set, scratch, k, ranks, factor, count, executor);
    executor.parallel_for(ceil_div(tokens, kTokens), [&](Index block, Index) noexcept {
      for (Index t = block * kTokens; t < tokens && t < (block + 1) * kTokens; ++t) {
        count[t] = 0;
        for (Index r = 0; set.active[t] && r < ranks; ++r) {
          const ExpertId e = scratch.ranked[t * n + r];
          if (scratch.wants[t * n + e]) chosen[t * n + count[t]++] = e;
        }
      }
    });
  }

 private:
  static constexpr Index kTokens = 32;  // a worker takes at once

  struct Scratch {
    ExpertId* ranked;    // [T, N] outputs of a row, best first
    bool* wants;         // [T, N] pairs of a candidate; then those that have a place
    std::int32_t* rows;  // [N, T] candidates of each output
    Index* active;       // [T] rows of its segment that take part
    Scratch(Arena& arena, Index tokens, Index outputs)
        : ranked(arena.take<ExpertId>(checked_product("choices", tokens, outputs))),
          wants(arena.take<bool>(tokens * outputs)),
          rows(arena.take<std::int32_t>(tokens * outputs)),
          active(arena.take<Index>(tokens)) {}
  };

  double factor_of(const CallOptions& options) const {
    return impl::capacity_factor_of(options, options_.capacity_factor);
  }
  Index experts_of(const CallOptions& options, Index outputs) const {
    return impl::experts_per_token(options_.k, options, outputs, "the router's outputs");
  }

  /// Output e's candidates in rows [first, last) beyond its best `places`.
  template <class Real>
  static void drop(const SetCall<Real>& set, const Scratch& scratch, Index e, Index first, Index last,
                   Index places) noexcept {
    const Index tokens = set.choice.rows, n = set.choice.cols;
    std::int32_t* const rows = scratch.rows + e * tokens + first;
    Index count = 0;
    for (Index t = first; t < last; ++t) {
      if (scratch.wants[t * n + e]) rows[count++] = static_cast<std::int32_t>(t);
    }
    best_first(set, e, rows, count, places);
    for (Index i = places; i < count; ++i) scratch.wants[rows[i] * n + e] = false;
  }

  /// `has` [T]: experts of a row, while this runs.
  template <class Real, Executor X>
  static void reroute(const SetCall<Real>& set, const Scratch& scratch, Index k, Index ranks, double factor,
                      Index* has, X& executor) {
    const Index tokens = set.choice.rows, n = set.choice.cols;
    const Segments& segments = set.call.segments;
    for (Index t = 0; t < tokens; ++t) {
      has[t] = 0;
      for (Index r = 0; set.active[t] && r < k; ++r)
        has[t] += scratch.wants[t * n + scratch.ranked[t * n + r]] ? 1 : 0;
    }
    for (Index r = k; r < ranks; ++r) {
      // A row has one expert of this rank: nobody else reads or writes its count.
      executor.parallel_for(n, [&](Index e, Index) noexcept {
        for (Index s = 0; s < segments.count(tokens); ++s) {
          const Index first = segments.begin(s), last = segments.end(s, tokens);
          if (first == last) continue;
          std::int32_t* const rows = scratch.rows + e * tokens + first;
          Index left = capacity(scratch.active[first], k, factor, n), count = 0;
          for (Index t = first; t < last; ++t) {
            left -= scratch.wants[t * n + e] ? 1 : 0;
            if (!set.active[t] || Index{scratch.ranked[t * n + r]} != e || has[t] >= k) continue;
            if (!is_neg_inf(set.choice(t, e))) rows[count++] = static_cast<std::int32_t>(t);
          }
          best_first(set, e, rows, count, left);
          for (Index i = 0; i < (std::min)(left, count); ++i) {
            scratch.wants[rows[i] * n + e] = true;
            ++has[rows[i]];
          }
        }
      });
    }
  }

  /// The best `places` of `count` rows before the others.
  template <class Real>
  static void best_first(const SetCall<Real>& set, Index e, std::int32_t* rows, Index count,
                         Index places) noexcept {
    if (count <= places) return;
    std::nth_element(rows, rows + places, rows + count, [&](std::int32_t a, std::int32_t b) {
      const Real of_a = set.choice(a, e), of_b = set.choice(b, e);
      return of_a != of_b ? of_a > of_b : a < b;
    });
  }

  Options options_;
};

MOE_NAMESPACE_END
