// A capacity policy chosen at run time.
#pragma once

#include "moe/core/input.hpp"
#include "moe/core/one_of.hpp"
#include "moe/core/workspace.hpp"
#include "moe/plan/capacity/list.hpp"

MOE_NAMESPACE_BEGIN

/// As coupled as the weakest of the list, whichever it holds.
class AnyCapacity : public FromList<OneOf, Capacities> {
 public:
  using FromList<OneOf, Capacities>::OneOf;
  static constexpr Coupling coupling = Coupling::per_segment;
  static_assert([] {
    bool none_is_weaker = true;
    for_each_type(Capacities{},
                  [&]<class C>(std::type_identity<C>) { none_is_weaker &= C::coupling <= coupling; });
    return none_is_weaker;
  }());

  /// Throws config_error for a factor that the policy it holds cannot obey.
  AnyCapacity for_call(const CallOptions& call) const {
    if (call.capacity_factor == 0) return *this;
    return visit([&]<class C>(const C& part) -> AnyCapacity {
      if constexpr (requires { part.for_call(call); }) {
        return part.for_call(call);
      } else {
        fail<config_error>("capacity factor: expected none for the capacity ", C::kName,
                           ", which cannot obey it, got ", call.capacity_factor);
      }
    });
  }
  void measure(Arena& arena, Index pairs, Index experts) const {
    visit([&](const auto& part) { part.measure(arena, pairs, experts); });
  }
  template <class Real>
  void limit(const RouteTable<Real>& table, const Segments& segments, bool* keep, Arena& arena) const {
    visit([&](const auto& part) { part.limit(table, segments, keep, arena); });
  }
};

MOE_NAMESPACE_END
