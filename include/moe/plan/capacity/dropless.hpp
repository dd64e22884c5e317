// No capacity: no expert turns a token away.
#pragma once

#include "moe/core/input.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/plan/route_table.hpp"

MOE_NAMESPACE_BEGIN

/// Every pair is kept.
struct Dropless {
  static constexpr const char* kName = "dropless";
  static constexpr Coupling coupling = Coupling::row_independent;

  void measure(Arena&, Index, Index) const noexcept {}
  template <class Real>
  void limit(const RouteTable<Real>&, const Segments&, bool*, Arena&) const noexcept {}
};

MOE_NAMESPACE_END
