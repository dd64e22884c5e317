// expect: moe: what is const shows Parameter<const Real>
#include "moe/moe.hpp"

using Layer = moe::MoeLayer<moe::SoftmaxTopK<float>, moe::Glu<moe::Silu, float>>;

void show(const Layer& layer) {
#if defined(MOE_MUST_COMPILE)
  layer.visit_parameters([](const moe::Parameter<const float>&) {});
#else
  layer.visit_parameters([](const moe::Parameter<float>&) {});
#endif
}
