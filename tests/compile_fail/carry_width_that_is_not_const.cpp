// expect: moe: a scorer has a carry_width\(\) that cannot be called
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

struct Carrying : moe::LinearScorer<float> {
  using LinearScorer::LinearScorer;
#if defined(MOE_MUST_COMPILE)
  moe::Index carry_width() const {
    return outputs();
  }
#else
  moe::Index carry_width() {
    return outputs();
  }
#endif
};
using Tape = moe::TokenChoice<Carrying, moe::Softmax, moe::TopKSelection, moe::GatherWeighting>::Tape;
