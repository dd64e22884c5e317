// expect: called almost like on_step_end: did you mean that\?
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

template <class... Parts>
using Router = moe::TokenChoice<moe::LinearScorer<float>, moe::Softmax, moe::TopKSelection,
                                moe::GatherWeighting, moe::Balancing<Parts...>>;

/// A score with state: the hook is one that any part may have.
struct Counting : moe::Softmax {
#if defined(MOE_MUST_COMPILE)
  void on_step_end(const moe::RouteStats&) {}
#else
  void on_step_edn(const moe::RouteStats&) {}
#endif
};
using Tape =
    moe::TokenChoice<moe::LinearScorer<float>, Counting, moe::TopKSelection, moe::GatherWeighting>::Tape;
