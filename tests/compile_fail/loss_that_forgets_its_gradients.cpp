// expect: moe: a loss has Gradients and a backward\(\) that does not take them
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

struct Learning {
  static constexpr const char* kName = "learning";
  struct Gradients {
    float gain = 0;
  };
  Gradients make_gradients() const { return {}; }
  template <class Visitor>
  void visit_parameters(Gradients*, Visitor&) {}
  template <class Visitor>
  void visit_storage(Gradients*, Visitor&) {}
  double forward(const moe::BalanceInput<float>&, moe::Arena&) const { return 0; }
#if defined(MOE_MUST_COMPILE)
  void backward(const moe::BalanceInput<float>&, double, const moe::BalanceGradients<float>&, Gradients*,
                moe::Arena&) const {}
#else
  void backward(const moe::BalanceInput<float>&, double, const moe::BalanceGradients<float>&,
                moe::Arena&) const {}
#endif
};
using Tape = moe::TokenChoice<moe::LinearScorer<float>, moe::Softmax, moe::TopKSelection,
                              moe::GatherWeighting, moe::Balancing<Learning>>::Tape;
