// expect: moe: router and experts must compute in the same type
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/kind/hash.hpp"

#if defined(MOE_MUST_COMPILE)
using Layer = moe::MoeLayer<moe::HashRouter<double>, moe::ZeroComputation<double>>;
#else
using Layer = moe::MoeLayer<moe::HashRouter<double>, moe::ZeroComputation<float>>;
#endif
using Tape = Layer::Tape;
