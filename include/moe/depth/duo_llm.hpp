// Duo-LLM, 2410.10846: every feed-forward layer has a big expert, a small one and none, chosen at random
// while the model trains, so that any path through its layers makes sense; analysis/oracle_path.hpp then
// finds each token's best path.
#pragma once

#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/kind/given.hpp"
#include "moe/router/kind/random.hpp"

MOE_NAMESPACE_BEGIN

/// Ids of a DuoBank. With skip the layer is 0, and the block around it hands its row on.
inline constexpr ExpertId kDuoBig = 0, kDuoSmall = 1, kDuoSkip = 2;

template <class Bank>
using DuoBank = Composite<Bank, Bank, ZeroComputation<typename Bank::Real>>;

/// The layer that is trained; draws each token's expert, weight 1.
template <class Bank>
using DuoLlm = MoeLayer<RandomRouter<typename Bank::Real>, DuoBank<Bank>>;
/// The same experts, for one call whose tokens' experts are given.
template <class Bank>
using DuoGiven = MoeLayer<GivenRoutes<typename Bank::Real>, DuoBank<Bank>&>;

/// Throws config_error unless both are banks of 1 expert and of one width.
template <class Bank>
DuoLlm<Bank> duo_llm(Bank big, Bank small) {
  using Real = typename Bank::Real;
  for (const Bank* const bank : {&big, &small}) {
    if (Index{bank->experts()} != 1) {
      fail<config_error>("duo llm: expected banks of 1 expert, got one of ", Index{bank->experts()});
    }
  }
  const Index width = big.width();
  return DuoLlm<Bank>(RandomRouter<Real>({.experts = 3, .k = 1}),
                      DuoBank<Bank>(std::move(big), std::move(small),
                                    ZeroComputation<Real>({.width = width, .zero = 1, .copy = 0})));
}

/// The small expert is the first part of the big one: `experts` is a nested bank (expert/bank/nested.hpp) of
/// two widths, the big one first.
template <class Nested>
using DuoNested =
    MoeLayer<RandomRouter<typename Nested::Real>, Composite<Nested, ZeroComputation<typename Nested::Real>>>;

/// Throws config_error unless there are two experts, the second not wider than the first.
template <class Nested>
DuoNested<Nested> duo_nested(Nested experts) {
  using Real = typename Nested::Real;
  if (experts.experts() != 2 || experts.hidden_of(1) > experts.hidden_of(0)) {
    fail<config_error>("duo llm: expected two nested experts, the wider one first, got ", experts.experts());
  }
  const Index width = experts.width();
  return DuoNested<Nested>(
      RandomRouter<Real>({.experts = 3, .k = 1}),
      Composite<Nested, ZeroComputation<Real>>(
          std::move(experts), ZeroComputation<Real>({.width = width, .zero = 1, .copy = 0})));
}

/// `ids` [T, 1], as kDuoBig, and `one` [T, 1], weights of 1: borrowed, as `bank`, which a trained layer's
/// experts() are.
template <class Bank>
DuoGiven<Bank> duo_given(const ConstMatrixView<ExpertId>& ids,
                         const ConstMatrixView<typename Bank::Real>& one, DuoBank<Bank>& bank) {
  return DuoGiven<Bank>(GivenRoutes<typename Bank::Real>(ids, one, 3), bank);
}

MOE_NAMESPACE_END
