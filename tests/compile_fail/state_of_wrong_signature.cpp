// expect: moe: a part has a visit_state\(\) that cannot be called
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

template <class... Parts>
using Router = moe::TokenChoice<moe::LinearScorer<float>, moe::Softmax, moe::TopKSelection,
                                moe::GatherWeighting, moe::Balancing<Parts...>>;

struct State {
#if defined(MOE_MUST_COMPILE)
  template <class Visitor>
  void visit_state(Visitor& f) {
    f("mine", &value, moe::Index{1});
  }
#else
  template <class Visitor>
  void visit_state(Visitor& f, int) {
    f("mine", &value, moe::Index{1});
  }
#endif
  double value = 0;
};
using Tape = Router<State>::Tape;
