// expect: moe: a part of the Balancing has forward\(\) or backward\(\) and is no Loss
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"

template <class... Parts>
using Router = moe::TokenChoice<moe::LinearScorer<float>, moe::Softmax, moe::TopKSelection,
                                moe::GatherWeighting, moe::Balancing<Parts...>>;

struct Loss {
  static constexpr const char* kName = "mine";
  template <class Real>
  double forward(const moe::BalanceInput<Real>&, moe::Arena&) const {
    return 0;
  }
#if defined(MOE_MUST_COMPILE)
  template <class Real>
  void backward(const moe::BalanceInput<Real>&, double, const moe::BalanceGradients<Real>&,
                moe::Arena&) const {}
#else
  template <class Real>
  void backward(const moe::BalanceInput<Real>&, double, const moe::BalanceGradients<Real>&) const {}
#endif
};
using Tape = Router<Loss>::Tape;
