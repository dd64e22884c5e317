// expect: moe: B is not a RowBlock
#include "moe/depth/depth_layer.hpp"
#include "moe/router/kind/every.hpp"

struct Block {
  using Real = float;
  static constexpr moe::Coupling coupling(bool) { return moe::Coupling::row_independent; }
  moe::Index width() const { return 4; }
  template <class X>
#if defined(MOE_MUST_COMPILE)
  void forward
#else
  void forwards
#endif
      (const moe::BlockCall&, const moe::ConstMatrixView<float>&, const moe::MatrixView<float>&,
       moe::impl::Nothing*, moe::Arena&, X&) const {
  }
};

using Layer = moe::DepthLayer<moe::EveryExpert<float>, Block>;
constexpr moe::Coupling kCoupling = Layer::coupling(true);
