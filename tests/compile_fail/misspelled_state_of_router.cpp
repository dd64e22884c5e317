// expect: called almost like visit_state: did you mean that\?
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/kind/hash.hpp"

/// A router with state: without the hook it would not be saved.
struct Counting : moe::HashRouter<float> {
  template <class Visitor>
#if defined(MOE_MUST_COMPILE)
  void visit_state(Visitor&) {
  }
#else
  void visit_stat(Visitor&) {
  }
#endif
};
using Tape = moe::MoeLayer<Counting, moe::ZeroComputation<float>>::Tape;
