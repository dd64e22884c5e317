// expect: make_tape
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/layer/concept.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/top_k.hpp"

using Layer = moe::MoeLayer<moe::SoftmaxTopK<float>, moe::ZeroComputation<float>>;

struct Tapeless : Layer {  // a tape of it would have to be made with an argument
  using Layer::Layer;
  Tape make_tape(int rows) const;
};

/// Two layers, one after the other: what TokenLayer is for.
template <moe::TokenLayer First, moe::TokenLayer Second>
struct Chain {
  First first;
  Second second;
};

#if defined(MOE_MUST_COMPILE)
using Two = Chain<Layer, Layer>;
#else
using Two = Chain<Layer, Tapeless>;
#endif
using Last = decltype(Two::second);
