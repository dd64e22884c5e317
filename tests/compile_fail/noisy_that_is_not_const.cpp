// expect: moe: a scorer has a noisy\(\) that cannot be called
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

struct Noisy : moe::LinearScorer<float> {
  using LinearScorer::LinearScorer;
#if defined(MOE_MUST_COMPILE)
  bool noisy() const {
    return false;
  }
#else
  bool noisy() {
    return false;
  }
#endif
};
using Tape = moe::TokenChoice<Noisy, moe::Softmax, moe::TopKSelection, moe::GatherWeighting>::Tape;
