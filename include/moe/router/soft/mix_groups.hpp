// Which rows mix with each other: those of a segment, or those at the same place of several segments.
#pragma once

#include <algorithm>
#include <concepts>

#include "moe/core/check.hpp"
#include "moe/core/input.hpp"
#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

/// `most(shape)`: bound on the groups of a call. `group(in, active, push, end)` calls push(t) for the rows of
/// a group that take part, ascending, then end(); a group of none is none.
template <class G>
concept MixGroups = std::copy_constructible<G> && requires(const G& groups, const CallShape& shape) {
  { G::coupling(true) } -> std::same_as<Coupling>;
  { groups.most(shape) } -> std::convertible_to<Index>;
};

/// The rows of a segment.
struct SegmentGroups {
  static constexpr const char* kName = "segments";
  static constexpr Coupling coupling(bool) noexcept { return Coupling::per_segment; }
  Index most(const CallShape& shape) const noexcept { return shape.segments; }

  template <class Real, class Push, class End>
  void group(const RouterInput<Real>& in, const bool* active, const Push& push, const End& end) const {
    const Index tokens = in.tokens();
    for (Index s = 0; s < in.segments.count(tokens); ++s) {
      for (Index t = in.segments.begin(s); t < in.segments.end(s, tokens); ++t) {
        if (active[t]) push(t);
      }
      end();
    }
  }
};

/// The rows at one position of `size` segments that follow each other (the last group of segments may be of
/// fewer): sequences of a batch, which stay causal, for a row meets none of a later position.
class PositionGroups {
 public:
  static constexpr const char* kName = "positions";
  static constexpr Coupling coupling(bool) noexcept { return Coupling::per_batch; }

  /// Throws config_error for a size below 1.
  explicit PositionGroups(Index size) : size_(size) { require_range("group size", size, 1, INT32_MAX); }
  Index size() const noexcept { return size_; }
  Index most(const CallShape& shape) const noexcept { return shape.tokens; }

  template <class Real, class Push, class End>
  void group(const RouterInput<Real>& in, const bool* active, const Push& push, const End& end) const {
    const Index tokens = in.tokens(), segments = in.segments.count(tokens);
    const auto rows = [&](Index s) { return in.segments.end(s, tokens) - in.segments.begin(s); };
    for (Index first = 0; first < segments; first += size_) {
      const Index last = (std::min)(first + size_, segments);
      Index longest = 0;
      for (Index s = first; s < last; ++s) longest = (std::max)(longest, rows(s));
      for (Index p = 0; p < longest; ++p) {
        for (Index s = first; s < last; ++s) {
          if (p < rows(s) && active[in.segments.begin(s) + p]) push(in.segments.begin(s) + p);
        }
        end();
      }
    }
  }

 private:
  Index size_;
};

MOE_NAMESPACE_END
