// expect: moe: a weighting has an experts\(\) that cannot be called
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

struct Half : moe::GatherWeighting {
#if defined(MOE_MUST_COMPILE)
  moe::Index experts(moe::Index outputs) const {
    return outputs / 2;
  }
#else
  moe::Index experts(moe::Index outputs) {
    return outputs / 2;
  }
#endif
};
using Tape = moe::TokenChoice<moe::LinearScorer<float>, moe::Softmax, moe::TopKSelection, Half>::Tape;
