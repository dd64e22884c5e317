// expect: moe: a part with Gradients has a visit_storage\(\) that cannot be called
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

struct Learning : moe::GatherWeighting {
  struct Gradients {
    float gain = 0;
  };
  Gradients make_gradients() const { return {}; }
  template <class Visitor>
  void visit_parameters(Gradients*, Visitor&) {}
  void add_gradients(const moe::RowContext<float>&, const moe::Chosen&, const float*,
                     const moe::WeightScratch<float>&, Gradients&) const {}
  template <class Visitor>
#if defined(MOE_MUST_COMPILE)
  void visit_storage(Gradients*, Visitor&) {
  }
#else
  void visit_storage(Gradients&, Visitor&) {
  }
#endif
};
using Tape = moe::TokenChoice<moe::LinearScorer<float>, moe::Softmax, moe::TopKSelection, Learning>::Tape;
