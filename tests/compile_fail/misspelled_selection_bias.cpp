// expect: called almost like selection_bias: did you mean that\?
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

template <class... Parts>
using Router = moe::TokenChoice<moe::LinearScorer<float>, moe::Softmax, moe::TopKSelection,
                                moe::GatherWeighting, moe::Balancing<Parts...>>;

struct Biased {
#if defined(MOE_MUST_COMPILE)
  const double* selection_bias() const {
    return nullptr;
  }
#else
  const double* selection_biass() const {
    return nullptr;
  }
#endif
};
using Tape = Router<Biased>::Tape;
