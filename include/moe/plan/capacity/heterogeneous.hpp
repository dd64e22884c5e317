// Heterogeneous capacity of MoE++: feed-forward experts and zero-computation experts have different places,
// in the proportion in which the load balance sends them tokens. Jin et al. 2410.07348.
#pragma once

#include "moe/plan/capacity/place_limit.hpp"

MOE_NAMESPACE_BEGIN

/// With the P pairs of a segment, N_F feed-forward experts (ids below `ffn`) and N_Z others: a feed-forward
/// expert takes ceil(factor * tau * P / (tau N_F + N_Z)) tokens, another ceil(factor * P / (tau N_F + N_Z)),
/// at least 1.
class HeterogeneousCapacity {
 public:
  static constexpr const char* kName = "heterogeneous";
  static constexpr Coupling coupling = Coupling::per_segment;

  struct Options {
    Index ffn = 0;        // N_F; the router's other experts are zero-computation experts
    double tau = 0.75;    // the loss's weight of the others
    double factor = 1.1;  // gamma
    CapacityOrder order = CapacityOrder::first_choices_first;
  };

  /// Throws config_error for ffn < 1, or a tau or factor that is not positive and finite.
  explicit HeterogeneousCapacity(Options options) : options_(options) {
    require_range("feed-forward experts", options.ffn, 1, INT32_MAX);
    if (!(options.tau > 0 && options.tau <= 1e9)) {
      fail<config_error>("tau: expected a value in (0, 1e9], got ", options.tau);
    }
    if (!(options.factor > 0 && options.factor <= 1e9)) {
      fail<config_error>("capacity factor: expected a value in (0, 1e9], got ", options.factor);
    }
  }

  const Options& options() const noexcept { return options_; }

  /// Places of expert e of `experts`.
  Index of(Index segment_pairs, Index e, Index experts) const noexcept {
    const auto ffn = static_cast<double>((std::min)(options_.ffn, experts));
    const double shares = options_.tau * ffn + static_cast<double>(experts) - ffn;
    const double share = e < options_.ffn ? options_.tau : 1.0;
    return impl::whole_places(options_.factor * share * static_cast<double>(segment_pairs) / shares, 1);
  }

  void measure(Arena& arena, Index pairs, Index experts) const { impl::PlaceLimit{arena, pairs, experts}; }

  template <class Real>
  void limit(const RouteTable<Real>& table, const Segments& segments, bool* keep, Arena& arena) const {
    impl::PlaceLimit(arena, table.pairs(), table.experts)
        .limit(
            table, segments, options_.order,
            [&](Index pairs, Index e) noexcept { return of(pairs, e, table.experts); }, keep);
  }

 private:
  Options options_;
};

MOE_NAMESPACE_END
