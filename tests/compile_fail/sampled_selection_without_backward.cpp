// expect: moe: a selection has log_probability\(\) or log_probability_backward\(\) and they cannot both be
// called
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

struct Sampled : moe::TopKSelection {
  using moe::TopKSelection::TopKSelection;
  double log_probability(const moe::RowContext<float>&, const moe::Chosen&) const { return 0; }
#if defined(MOE_MUST_COMPILE)
  void log_probability_backward(const moe::RowContext<float>&, const moe::Chosen&, double, float*) const {}
#else
  void log_probability_backward(const moe::RowContext<float>&, const moe::Chosen&, float*) const {}
#endif
};
using Tape = moe::TokenChoice<moe::LinearScorer<float>, moe::Softmax, Sampled, moe::GatherWeighting>::Tape;
