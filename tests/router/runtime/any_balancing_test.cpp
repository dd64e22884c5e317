#include "moe/router/runtime/any_balancing.hpp"

#include <string>
#include <vector>

#include "moe/router/balance/list.hpp"
#include "support/balance_case.hpp"

namespace {

template <class Balance>
std::vector<moe::AuxiliaryLosses::Entry> losses(const Balance& balance, const test::BalanceCase& c) {
  test::MeasuredMemory memory([&](moe::Arena& a) { balance.measure(a, c.tokens, c.outputs); });
  moe::Arena arena = memory.arena();
  moe::AuxiliaryLosses all;
  balance.forward(c.input(), moe::impl::NoScorer{}, all, arena);
  return {all.begin(), all.end()};
}

}  // namespace

TEST_CASE("a balancing put together at run time has the parts that were put in", "[balancing]") {
  const auto c = test::random_balance_case(20, 6, 2, 3);
  moe::AnyBalancing any;
  CHECK(!any.has_loss());
  CHECK(any.selection_bias() == nullptr);
  CHECK(losses(any, c).empty());
  any.set(moe::ZLoss(0.5));
  any.set(moe::LoadBalance({.coefficient = 0.25}));
  any.set(moe::SelectionBias({.outputs = 6}));
  CHECK(any.has_loss());
  CHECK(any.selection_bias() != nullptr);
  CHECK_NOTHROW(any.check(6));
  CHECK_THROWS_AS(any.check(5), moe::shape_error);
  const auto some = losses(any, c);
  const auto fixed = losses(
      moe::Balancing<moe::LoadBalance, moe::ZLoss>(moe::LoadBalance({.coefficient = 0.25}), moe::ZLoss(0.5)),
      c);
  REQUIRE(some.size() == 2);
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(std::string(some[i].name) == fixed[i].name);
    CHECK(some[i].value == fixed[i].value);
  }
  any.set(moe::ZLoss(0.0));  // replaced, and so switched off
  CHECK(losses(any, c).size() == 1);
  REQUIRE(any.get_if<moe::LoadBalance>() != nullptr);
  CHECK(any.get_if<moe::AdaptiveL1>() == nullptr);
}

TEST_CASE("every part of the list can be put in", "[balancing]") {
  auto c = test::random_balance_case(20, 6, 2, 3);
  const std::vector<std::int32_t> device(20, 0);
  c.call.device = device;
  const std::vector<double> target(120, 1.0 / 6);
  c.call.target = {target.data(), 20, 6};
  moe::for_each_type(moe::BalanceParts{}, [&]<class Part>(std::type_identity<Part>) {
    INFO(Part::kName);
    typename Part::Options options;
    if constexpr (requires { options.outputs; }) options.outputs = 6;
    moe::AnyBalancing any;
    any.set(Part(options));
    CHECK(any.get_if<Part>() != nullptr);
    const auto all = losses(any, c);
    CHECK(all.size() == (moe::Loss<Part, double> ? 1u : 0u));
    if (!all.empty()) CHECK(std::string(all[0].name) == Part::kName);
  });
}
