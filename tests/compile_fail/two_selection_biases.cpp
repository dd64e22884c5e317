// expect: moe: two parts of this Balancing have a selection_bias\(\); selections take one
#include "moe/router/balance/selection_bias.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

template <class... Parts>
using Router = moe::TokenChoice<moe::LinearScorer<float>, moe::Softmax, moe::TopKSelection,
                                moe::GatherWeighting, moe::Balancing<Parts...>>;

struct Second {
  const double* selection_bias() const { return nullptr; }
};

#if defined(MOE_MUST_COMPILE)
using Wrong = Router<moe::SelectionBias>;
#else
using Wrong = Router<moe::SelectionBias, Second>;
#endif
using Tape = Wrong::Tape;
