// Expert dropout that leaves every cluster of experts as many. MoEC, 2207.09094.
#pragma once

#include <cstdint>

#include "moe/core/check.hpp"
#include "moe/core/random.hpp"
#include "moe/router/expert_blocks.hpp"
#include "moe/router/scorer/concept.hpp"

MOE_NAMESPACE_BEGIN

struct ClusterDropoutOptions {
  Index clusters = 1;  // equal blocks of the outputs
  double rate = 0;     // of every cluster's outputs, rounded down, so that one stays
};

/// An ExpertMask (router/scorer/masked.hpp): in training every call hides the same outputs from all rows, in
/// every cluster those of the smallest draws by (seed, call). Nothing is hidden in inference.
class ClusterDropout {
 public:
  static constexpr const char* kName = "cluster_dropout";
  using Options = ClusterDropoutOptions;

  /// Throws config_error for clusters below 1 or a rate outside [0, 1).
  explicit ClusterDropout(const Options& options) : options_(options) {
    require_range("clusters", options.clusters, 1, INT32_MAX);
    if (!(options.rate >= 0 && options.rate < 1)) {
      fail<config_error>("expert dropout: expected a rate in [0, 1), got ", options.rate);
    }
  }
  const Options& options() const noexcept { return options_; }

  void check(Index outputs) const { impl::require_blocks("clusters", options_.clusters, outputs); }
  /// A training call that drops draws.
  template <class Real>
  void check_call(const RouterInput<Real>& in) const {
    if (drops(in)) in.require_draws("expert dropout");
  }
  void measure(Arena& arena, Index outputs) const {
    arena.take<bool>(outputs);
    arena.take<std::uint64_t>(outputs);
  }
  template <class Real>
  auto hidden(const RouterInput<Real>& in, Index outputs, Arena& arena) const {
    bool* const dropped = arena.take<bool>(outputs);
    std::uint64_t* const draw = arena.take<std::uint64_t>(outputs);
    for (Index e = 0; e < outputs; ++e) dropped[e] = false;
    if (drops(in)) {
      const KeyedRandom random = in.random(DrawStream::expert_dropout);
      for (Index e = 0; e < outputs; ++e) draw[e] = random.bits(0, static_cast<std::uint32_t>(e));
      drop_smallest(draw, outputs, dropped);
    }
    return [dropped](Index, Index e) noexcept -> bool { return dropped[e]; };
  }

 private:
  template <class Real>
  bool drops(const RouterInput<Real>& in) const noexcept {
    return in.training && options_.rate > 0;
  }
  void drop_smallest(const std::uint64_t* draw, Index outputs, bool* dropped) const noexcept {
    const Index size = outputs / options_.clusters;
    const auto count = static_cast<Index>(options_.rate * static_cast<double>(size));
    for (Index e = 0; e < outputs; ++e) {
      Index before = 0;  // in its cluster
      const Index first = e / size * size;
      for (Index o = first; o < first + size; ++o) {
        before += draw[o] < draw[e] || (draw[o] == draw[e] && o < e) ? 1 : 0;
      }
      dropped[e] = before < count;
    }
  }

  Options options_;
};

MOE_NAMESPACE_END
