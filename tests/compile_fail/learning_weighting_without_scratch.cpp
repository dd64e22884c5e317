// expect: moe: a weighting has an add_gradients\(\) that cannot be called
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
  template <class Visitor>
  void visit_storage(Gradients*, Visitor&) {}
#if defined(MOE_MUST_COMPILE)
  void add_gradients(const moe::RowContext<float>&, const moe::Chosen&, const float*,
                     const moe::WeightScratch<float>&, Gradients&) const {}
#else
  void add_gradients(const moe::RowContext<float>&, const moe::Chosen&, const float*, Gradients&) const {}
#endif
};
using Tape = moe::TokenChoice<moe::LinearScorer<float>, moe::Softmax, moe::TopKSelection, Learning>::Tape;
