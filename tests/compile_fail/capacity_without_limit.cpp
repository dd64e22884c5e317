// expect: moe: C is not a CapacityPolicy; it needs coupling, measure\(arena, pairs, experts\)
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "moe/router/kind/hash.hpp"

struct Incomplete {
  static constexpr moe::Coupling coupling = moe::Coupling::row_independent;
};

#if defined(MOE_MUST_COMPILE)
using Layer = moe::MoeLayer<moe::HashRouter<float>, moe::ZeroComputation<float>, moe::FixedCapacity>;
#else
using Layer = moe::MoeLayer<moe::HashRouter<float>, moe::ZeroComputation<float>, Incomplete>;
#endif
using Tape = Layer::Tape;
