// expect: moe: this layer couples tokens of different requests in inference mode
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/layer/isolated_layer.hpp"
#include "moe/router/kind/hash.hpp"

struct AcrossTheBatch : moe::HashRouter<float> {
#if defined(MOE_MUST_COMPILE)
  static constexpr moe::Coupling coupling(bool) {
    return moe::Coupling::per_segment;
  }
#else
  static constexpr moe::Coupling coupling(bool) {
    return moe::Coupling::per_batch;
  }
#endif
};

using Layer = moe::IsolatedLayer<moe::MoeLayer<AcrossTheBatch, moe::ZeroComputation<float>>>;
using Tape = Layer::Tape;
