// The same number of places for every expert: GShard, Switch, Tutel.
#pragma once

#include <cmath>

#include "moe/core/check.hpp"
#include "moe/core/input.hpp"
#include "moe/plan/capacity/place_limit.hpp"

MOE_NAMESPACE_BEGIN

/// At most C tokens per expert and segment: C = `tokens_per_expert` if given, else ceil(factor * P / E) with
/// the P pairs of the segment, or with `choices` K = P / T the K floor(factor ceil(T / E)) of Tutel; at least
/// `minimum`. A capacity beyond the segment's tokens drops nothing.
class FixedCapacity {
 public:
  static constexpr const char* kName = "fixed";
  static constexpr Coupling coupling = Coupling::per_segment;

  struct Options {
    Index tokens_per_expert = 0;
    double factor = 0;
    Index minimum = 1;
    CapacityOrder order = CapacityOrder::first_choices_first;
    Index choices = 0;
  };

  /// Throws config_error unless exactly one of tokens_per_expert and factor is given and positive; a call,
  /// if a token has more pairs than `choices`.
  explicit FixedCapacity(Options options) : options_(options) {
    if (options.tokens_per_expert < 0 || (options.tokens_per_expert == 0 && options.factor == 0)) {
      fail<config_error>("capacity: expected tokens_per_expert >= 1 or a factor > 0, got tokens_per_expert ",
                         options.tokens_per_expert);
    }
    if (!(options.factor >= 0) || !(options.factor <= 1e9)) {
      fail<config_error>("capacity factor: expected a value in (0, 1e9], got ", options.factor);
    }
    if (options.tokens_per_expert > 0 && options.factor > 0) {
      fail<config_error>("capacity: expected tokens_per_expert or a factor, got both: ",
                         options.tokens_per_expert, " and ", options.factor);
    }
    require_range("minimum capacity", options.minimum, 1, PTRDIFF_MAX);
    require_range("choices of a capacity", options.choices, 0, INT32_MAX);
  }

  const Options& options() const noexcept { return options_; }
  /// With the call's capacity factor, if it has one. Throws config_error for a number of places, which has no
  /// factor, and for a factor out of range.
  FixedCapacity for_call(const CallOptions& call) const {
    if (call.capacity_factor == 0) return *this;
    if (options_.tokens_per_expert > 0) {
      fail<config_error>("capacity factor: expected none for a capacity of ", options_.tokens_per_expert,
                         " places, which cannot obey it, got ", call.capacity_factor);
    }
    Options options = options_;
    options.factor = call.capacity_factor;
    return FixedCapacity(options);
  }

  Index of(Index segment_pairs, Index experts) const noexcept {
    if (options_.tokens_per_expert > 0) return options_.tokens_per_expert;
    if (options_.choices > 0) {
      const Index tokens = ceil_div(segment_pairs, options_.choices);
      const double places = std::floor(options_.factor * static_cast<double>(ceil_div(tokens, experts)));
      return impl::whole_places(places * static_cast<double>(options_.choices), options_.minimum);
    }
    return impl::whole_places(
        options_.factor * static_cast<double>(segment_pairs) / static_cast<double>(experts),
        options_.minimum);
  }

  void measure(Arena& arena, Index pairs, Index experts) const { impl::PlaceLimit{arena, pairs, experts}; }

  template <class Real>
  void limit(const RouteTable<Real>& table, const Segments& segments, bool* keep, Arena& arena) const {
    for (Index t = 0; options_.choices > 0 && t < table.tokens; ++t) {
      if (table.count(t) > options_.choices) {
        fail<config_error>("choices of a capacity: expected the K of the call, got ", options_.choices,
                           " for a token of ", table.count(t));
      }
    }
    impl::PlaceLimit(arena, table.pairs(), table.experts)
        .limit(
            table, segments, options_.order,
            [&](Index pairs, Index) noexcept { return of(pairs, table.experts); }, keep);
  }

 private:
  Options options_;
};

MOE_NAMESPACE_END
