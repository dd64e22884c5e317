// expect: moe: S is not a Shared part; it needs Tape, Gradients, width\(\), measure\(arena, tokens
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/kind/hash.hpp"

struct Incomplete {
  struct Tape {};
  struct Gradients {};
  moe::Index width() const { return 0; }
  void measure(moe::Arena&, moe::Index, moe::Index) const {}
  void measure_backward(moe::Arena&, moe::Index, moe::Index) const {}
  template <class Real, moe::Executor X>
  void forward(const moe::ConstMatrixView<Real>&, const bool*, const moe::MatrixView<Real>&, Tape*,
               moe::Arena&, X&) const {}
  Gradients make_gradients() const { return {}; }
};

#if defined(MOE_MUST_COMPILE)
using Shared = moe::NoShared;
#else
using Shared = Incomplete;
#endif
using Layer = moe::MoeLayer<moe::HashRouter<float>, moe::ZeroComputation<float>, moe::Dropless, Shared>;
using Tape = Layer::Tape;
