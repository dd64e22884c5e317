// expect: moe: a router or bank has a measure\(\) that cannot be called
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/kind/hash.hpp"

/// It takes memory, and says so with a bank's arguments.
struct Measuring : moe::HashRouter<float> {
#if defined(MOE_MUST_COMPILE)
  void measure(moe::Arena&, const moe::CallShape&, moe::Index) const {}
#else
  void measure(moe::Arena&, moe::Index, moe::Index) const {}
#endif
};
using Tape = moe::MoeLayer<Measuring, moe::ZeroComputation<float>>::Tape;
