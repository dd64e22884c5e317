// expect: moe: B is not an ExpertBank; it needs Real, coupling, experts\(\), width\(\)
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/kind/hash.hpp"

struct Incomplete {
  using Real = float;
  static constexpr moe::Coupling coupling = moe::Coupling::row_independent;
  moe::Index experts() const { return 1; }
  moe::Index width() const { return 1; }
};

#if defined(MOE_MUST_COMPILE)
using Layer = moe::MoeLayer<moe::HashRouter<float>, moe::ZeroComputation<float>>;
#else
using Layer = moe::MoeLayer<moe::HashRouter<float>, Incomplete>;
#endif
using Tape = Layer::Tape;
