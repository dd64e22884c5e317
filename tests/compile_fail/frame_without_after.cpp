// expect: moe: F is not a Frame; it needs Tape, Gradients, inner_width\(w\), outer_width\(w\)
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/kind/hash.hpp"

struct Misspelled : moe::IdentityFrame {  // "after" takes no flags of active rows
  template <class Real, moe::Executor X>
  void after(const moe::MatrixView<Real>&, const moe::MatrixView<Real>&, Tape*, moe::Arena&, X&) const {}
};

#if defined(MOE_MUST_COMPILE)
using Frame = moe::IdentityFrame;
#else
using Frame = Misspelled;
#endif
using Layer =
    moe::MoeLayer<moe::HashRouter<float>, moe::ZeroComputation<float>, moe::Dropless, moe::NoShared, Frame>;
using Tape = Layer::Tape;
