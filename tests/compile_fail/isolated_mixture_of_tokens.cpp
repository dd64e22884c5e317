// expect: moe: this layer couples tokens of different requests in inference mode
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/layer/isolated_layer.hpp"
#include "moe/layer/soft/soft_layer.hpp"
#include "moe/router/soft/mixture_of_tokens.hpp"
#include "moe/router/soft/soft_moe.hpp"

#if defined(MOE_MUST_COMPILE)
using Router = moe::SoftMoeRouter<float>;
#else
using Router = moe::MixtureOfTokensRouter<float>;
#endif

using Layer = moe::IsolatedLayer<moe::SoftLayer<Router, moe::ZeroComputation<float>>>;
using Tape = Layer::Tape;
