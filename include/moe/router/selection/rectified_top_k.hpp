// A top-k under a capacity whose losses are made good: free places are filled with the next choices of other
// rows, and rows that lost a choice get an expert of their own group (device). Zeng et al. 2402.12399, "Turn
// waste into worth: rectifying top-k router of MoE".
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/kernel/top_k.hpp"
#include "moe/router/expert_blocks.hpp"
#include "moe/router/selection/concept.hpp"

MOE_NAMESPACE_BEGIN

/// In every segment an expert takes C = ceil(factor * K * (active rows) / N) of the rows that have it among
/// their k best, those of highest choice score. Then, in this order, fill-in: the free places of an expert go
/// to rows that have it as choice k + 1, of highest score, then k + 2, ...; reroute: a row with fewer than k
/// experts left gets the best others of its group, beyond their capacity. The group of row i of a segment of
/// T is floor(i * groups / T), as of a batch that is split over devices. Equal scores: the lower row first.
class RectifiedTopK {
 public:
  static constexpr const char* kName = "rectified_top_k";
  struct Options {
    Index k = 1;
    double capacity_factor = 1;
    Index groups = 1;  // equal blocks of ids, and of a segment's rows
    bool fill_in = true;
    bool reroute = true;
  };

  static constexpr Coupling coupling(bool) noexcept { return Coupling::per_segment; }

  /// Throws config_error for k or groups < 1 or a factor outside (0, 1e9].
  explicit RectifiedTopK(Options options) : options_(options) {
    require_range("experts per token", options.k, 1, INT32_MAX);
    require_range("groups", options.groups, 1, INT32_MAX);
    impl::check_capacity_factor(options.capacity_factor);
  }
  const Options& options() const noexcept { return options_; }

  void check(Index outputs) const { impl::require_blocks("groups", options_.groups, outputs); }
  template <class Real>
  void check_call(const RouterInput<Real>& in) const {
    impl::refuse_option("threshold", in.options.threshold, "the selection ", kName);
    impl::refuse_option("p", in.options.p, "the selection ", kName);
  }

  /// C.
  static Index capacity(Index active, Index k, double factor, Index outputs) noexcept {
    const double places = factor * static_cast<double>(k * active) / static_cast<double>(outputs);
    return static_cast<Index>((std::min)(std::ceil(places), static_cast<double>(active)));
  }

  /// T K for what is chosen or rerouted, and every place once more for what is filled in.
  Index max_pairs(const CallShape& shape, Index outputs) const {
    const Index k = impl::experts_per_token(options_.k, shape.options, outputs, "the router's outputs");
    const Index all = checked_product("routed pairs", shape.tokens, outputs);
    const double bound =
        static_cast<double>(shape.tokens) * static_cast<double>(k) * (1 + factor_of(shape.options)) +
        static_cast<double>((std::min)(shape.segments, shape.tokens)) * static_cast<double>(outputs);
    return bound < static_cast<double>(all) ? static_cast<Index>(bound) + 1 : all;
  }
  void measure(Arena& arena, Index tokens, Index outputs) const { Scratch{arena, tokens, outputs}; }

  template <class Real, Executor X>
  void select_set(const SetCall<Real>& set, ExpertId* chosen, Index* count, Arena& arena, X& executor) const {
    const Index tokens = set.choice.rows, n = set.choice.cols;
    const Scratch scratch(arena, tokens, n);
    executor.parallel_for(ceil_div(tokens, kTokens), [&](Index block, Index) noexcept {
      for (Index t = block * kTokens; t < tokens && t < (block + 1) * kTokens; ++t) {
        count[t] = 0;
        scratch.open[t] = 0;
        if (!set.active[t]) continue;
        top_k_row(set.choice.row(t), n, n, scratch.ranked + t * n);
        scratch.open[t] = impl::without_masked(set.choice.row(t), scratch.ranked + t * n, n);
        for (Index r = 0; r < n; ++r) scratch.taken[t * n + r] = false;
      }
    });
    for (Index s = 0; s < set.call.segments.count(tokens); ++s) {
      rectify(set, scratch, set.call.segments.begin(s), set.call.segments.end(s, tokens));
    }
    for (Index t = 0; t < tokens; ++t) {
      for (Index r = 0; r < scratch.open[t]; ++r) {
        if (scratch.taken[t * n + r]) chosen[t * n + count[t]++] = scratch.ranked[t * n + r];
      }
    }
  }

 private:
  static constexpr Index kTokens = 32;  // a worker takes at once

  struct Scratch {
    ExpertId* ranked;  // [T, N] outputs of a row, best first
    bool* taken;       // [T, N] of those
    Index* open;       // [T] not masked
    Index* places;     // [N] left
    Index* row;        // [T] candidates of one output
    Scratch(Arena& arena, Index tokens, Index outputs)
        : ranked(arena.take<ExpertId>(checked_product("choices", tokens, outputs))),
          taken(arena.take<bool>(tokens * outputs)),
          open(arena.take<Index>(tokens)),
          places(arena.take<Index>(outputs)),
          row(arena.take<Index>(tokens)) {}
  };

  /// Throws config_error for a factor of the call outside (0, 1e9].
  double factor_of(const CallOptions& options) const {
    return impl::capacity_factor_of(options, options_.capacity_factor);
  }

  template <class Real>
  void rectify(const SetCall<Real>& set, const Scratch& scratch, Index first, Index last) const {
    const Index n = set.choice.cols;
    const Index asked = set.call.options.experts_per_token, k = asked == 0 ? options_.k : asked;
    Index active = 0;
    for (Index t = first; t < last; ++t) active += set.active[t] ? 1 : 0;
    const Index places = capacity(active, k, factor_of(set.call.options), n);
    for (Index e = 0; e < n; ++e) {
      scratch.places[e] = places;
      take(set, scratch, first, last, e, 0, k);
    }
    for (Index r = k; options_.fill_in && r < n; ++r) {
      for (Index e = 0; e < n; ++e) take(set, scratch, first, last, e, r, r + 1);
    }
    for (Index t = first; options_.reroute && t < last; ++t) {
      reroute(scratch, t, n, k, (t - first) * options_.groups / (last - first));
    }
  }

  /// Output e's places that are left go to the rows that have it at a rank of [from, to).
  template <class Real>
  void take(const SetCall<Real>& set, const Scratch& scratch, Index first, Index last, Index e, Index from,
            Index to) const noexcept {
    const Index n = set.choice.cols;
    const auto rank_of = [&](Index t) {
      Index r = from;
      while (r < to && r < scratch.open[t] && Index{scratch.ranked[t * n + r]} != e) ++r;
      return r < to && r < scratch.open[t] ? r : Index{-1};
    };
    Index candidates = 0;
    for (Index t = first; t < last && scratch.places[e] > 0; ++t) {
      if (rank_of(t) >= 0) scratch.row[candidates++] = t;
    }
    const Index taken = (std::min)(scratch.places[e], candidates);
    std::nth_element(scratch.row, scratch.row + taken, scratch.row + candidates, [&](Index a, Index b) {
      const Real of_a = set.choice(a, e), of_b = set.choice(b, e);
      return of_a != of_b ? of_a > of_b : a < b;
    });
    for (Index i = 0; i < taken; ++i) scratch.taken[scratch.row[i] * n + rank_of(scratch.row[i])] = true;
    scratch.places[e] -= taken;
  }

  void reroute(const Scratch& scratch, Index t, Index n, Index k, Index group) const noexcept {
    Index has = 0;
    for (Index r = 0; r < scratch.open[t]; ++r) has += scratch.taken[t * n + r] ? 1 : 0;
    for (Index r = 0; r < scratch.open[t] && has < k; ++r) {
      bool& taken = scratch.taken[t * n + r];
      if (taken || scratch.ranked[t * n + r] / (n / options_.groups) != group) continue;
      taken = true;
      ++has;
    }
  }

  Options options_;
};

MOE_NAMESPACE_END
