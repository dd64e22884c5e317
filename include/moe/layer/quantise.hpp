// From one storage of a layer's experts to another.
#pragma once

#include <type_traits>
#include <utility>

#include "moe/expert/bank/quantise.hpp"
#include "moe/layer/isolated_layer.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/shared/any.hpp"
#include "moe/layer/shared/none.hpp"
#include "moe/layer/shared/shared_experts.hpp"

MOE_NAMESPACE_BEGIN

/// The same shared experts with weights stored as To; their gate stays.
template <class To, class Bank>
auto quantise(const SharedExperts<Bank>& shared) {
  return shared.with_bank(quantise<To>(shared.bank()));
}
template <class To>
NoShared quantise(const NoShared&) noexcept {
  return {};
}
template <class To, class Bank>
auto quantise(const AnyShared<Bank>& shared) {
  using Result = AnyShared<decltype(quantise<To>(std::declval<const Bank&>()))>;
  return shared.get() == nullptr ? Result() : Result(quantise<To>(*shared.get()));
}

/// The layer with the weights of its experts, shared ones too, stored as To, as quantise() of a bank rounds
/// them; router, capacity and frame are copied, also a router that lives elsewhere. Throws numeric_error as
/// quantise() of a bank.
template <class To, class R, class B, class C, class S, class F>
auto quantise(const MoeLayer<R, B, C, S, F>& layer) {
  auto experts = quantise<To>(layer.experts());
  auto shared = quantise<To>(layer.shared());
  return MoeLayer<std::remove_cvref_t<R>, decltype(experts), C, decltype(shared), F>(
      layer.router(), std::move(experts), layer.capacity(), std::move(shared), layer.frame());
}
template <class To, class L>
auto quantise(const IsolatedLayer<L>& layer) {
  return IsolatedLayer(quantise<To>(static_cast<const L&>(layer)));
}

MOE_NAMESPACE_END
