// expect: moe: R is not a Router; it needs Real, coupling\(bool\), experts\(\), width\(\) and route
#include "moe/layer/moe_layer.hpp"
#include "moe/router/kind/hash.hpp"

struct Nothing {
  using Real = float;
  static constexpr moe::Coupling coupling = moe::Coupling::row_independent;
  moe::Index experts() const { return 1; }
  moe::Index width() const { return 1; }
  template <moe::Executor X>
  void forward(const moe::RowBatch<float>&, const moe::RowSink<float>&, moe::Arena&, X&) const {}
};

struct Misspelled {  // "rout" instead of "route"
  using Real = float;
  static constexpr moe::Coupling coupling(bool) { return moe::Coupling::row_independent; }
  moe::Index experts() const { return 1; }
  moe::Index width() const { return 0; }
  template <moe::Executor X>
  void rout(const moe::RouterInput<float>&, moe::RouteTable<float>&, moe::Arena&, X&) const {}
};

#if defined(MOE_MUST_COMPILE)
using Layer = moe::MoeLayer<moe::HashRouter<float>, Nothing>;
#else
using Layer = moe::MoeLayer<Misspelled, Nothing>;
#endif
using Tape = Layer::Tape;
