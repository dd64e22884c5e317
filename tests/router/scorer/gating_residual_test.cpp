#include "moe/router/scorer/gating_residual.hpp"

#include <cmath>
#include <limits>
#include <string>

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/scorer/map/soft_cap.hpp"
#include "moe/router/scorer/mapped.hpp"
#include "moe/router/scorer/noisy.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::Index;
using Linear = moe::LinearScorer<double>;
using Residual = moe::GatingResidual<Linear>;
using Noisy = moe::GatingResidual<moe::NoisyScorer<double>>;
template <class S>
using RouterOf = moe::TokenChoice<S, moe::Softmax, moe::TopKSelection, moe::GatherWeighting>;
constexpr Index kTokens = 6, kWidth = 4, kOutputs = 5;

template <class S>
RouterOf<S> router_of(S scorer) {
  return {std::move(scorer), {}, moe::TopKSelection(2), moe::GatherWeighting{}};
}
Linear linear() {
  return Linear({.width = kWidth, .outputs = kOutputs});
}
const test::RouterCases kCases{
    {"gating residual", [] { return router_of(Residual(linear())); }},
    {"gating residual, off", [] { return router_of(Residual(linear(), false)); }},
    {"gating residual of a noisy scorer",
     [] { return router_of(Noisy(moe::NoisyScorer<double>({.width = kWidth, .outputs = kOutputs}))); }},
    {"gating residual under a map",
     [] {
       return router_of(moe::MappedScorer<Residual, moe::SoftCap>(Residual(linear()), moe::SoftCap(2)));
     }},
};

test::RouterCall<double> call_with_carry(std::uint64_t seed = 1) {
  auto call = test::random_call<double>(kTokens, kWidth, seed);
  test::add_carry(call, kOutputs);
  return call;
}

/// What a router hands on.
template <class R>
std::vector<double> handed_on(const R& router, const test::RouterCall<double>& call,
                              typename R::Tape* tape = nullptr) {
  std::vector<double> carry(static_cast<std::size_t>(call.tokens * router.carry_width()));
  moe::RouteView<double> view;
  view.carry = moe::MatrixView<double>(carry.data(), call.tokens, router.carry_width());
  test::OwnedTable<double> table(router, call.shape());
  test::MeasuredMemory memory([&](moe::Arena& a) { router.measure(a, call.shape(), 1); });
  moe::Arena arena = memory.arena();
  moe::SerialExecutor serial;
  router.route_observed(call.input(), *table, tape, view, arena, serial);
  return carry;
}

}  // namespace

TEST_CASE("gating residual: logits and what is handed on are Inner's plus the map of the carry",
          "[gating_residual]") {
  auto router = router_of(Residual(linear()));
  test::randomise(router, 3);
  CHECK(router.carry_width() == kOutputs);
  const auto w = test::parameter(router, "gate.weight"), g = test::parameter(router, "gate_map.weight");
  auto call = call_with_carry();
  call.options.temperature = 0.5;  // behind what is handed on, as is the mask
  test::mask_some(call, kOutputs, true);
  const auto carry = call.columns.reals.at("carry");
  for (const bool first : {false, true}) {
    if (first) call.columns.reals.erase("carry");
    const auto handed = handed_on(router, call);
    for (std::size_t t = 0; t < kTokens; ++t) {
      for (std::size_t e = 0; e < kOutputs; ++e) {
        double want = 0;
        for (std::size_t j = 0; j < kWidth; ++j) want += w[e][j] * call.x[t * kWidth + j];
        for (std::size_t j = 0; !first && j < kOutputs; ++j) want += g[e][j] * carry[t * kOutputs + j];
        CHECK(test::near(handed[t * kOutputs + e], want));
      }
    }
  }
}

TEST_CASE("gating residual: a map of zeros, none, and no carry give the plain router's bits",
          "[gating_residual]") {
  auto plain = router_of(linear());
  plain.scorer().initialise(3);
  const auto call = call_with_carry();
  auto first = call;
  first.columns.reals.erase("carry");
  const auto want = test::route(plain, call);
  for (const bool enabled : {true, false}) {
    auto router = router_of(Residual(linear(), enabled));
    router.scorer().initialise(3);
    CHECK(router.carry_width() == (enabled ? kOutputs : 0));
    CHECK(test::same_route(test::route(router, call), want));
    auto wide = call;
    if (!enabled) test::add_carry(wide, 2);  // nobody's column
    CHECK(test::same_route(test::route(router, wide), want));
  }
  auto drawn = router_of(Residual(linear()));
  test::randomise(drawn, 3);
  test::set_parameter(drawn, "gate.weight", test::parameter(plain, "gate.weight"));
  CHECK(test::same_route(test::route(drawn, first), want));
  CHECK(!test::same_route(test::route(drawn, call), want));
}

TEST_CASE("gating residual: what a noisy scorer hands on is without noise, with its gradient",
          "[gating_residual]") {
  auto router = router_of(Noisy(moe::NoisyScorer<double>({.width = kWidth, .outputs = kOutputs})));
  test::randomise(router, 4);
  for (const bool training : {true, false}) {
    auto call = call_with_carry();
    call.training = training;
    typename decltype(router)::Tape tape;
    const auto handed = handed_on(router, call, &tape);
    auto other_draws = call;
    other_draws.seed += 1;
    CHECK(handed == handed_on(router, other_draws));
    // d sum(dcarry_out * handed) by differences: of x, the carry and W_g.
    std::vector<double> dout(handed.size()), dx(call.x.size()), dcarry(handed.size());
    for (std::size_t i = 0; i < dout.size(); ++i) dout[i] = std::sin(static_cast<double>(i));
    auto gradients = router.make_gradients();
    test::OwnedTable<double> table(router, call.shape());
    const auto routed = test::route_train(router, call, table, tape);
    moe::RouteGradients<double> out;
    const std::vector<double> dweight(static_cast<std::size_t>(routed.pairs()));
    out.dweight = dweight.data();
    out.dx = moe::MatrixView<double>(dx.data(), kTokens, kWidth);
    out.dcarry_out = moe::ConstMatrixView<double>(dout.data(), kTokens, kOutputs);
    out.dcarry = moe::MatrixView<double>(dcarry.data(), kTokens, kOutputs);
    test::MeasuredMemory memory([&](moe::Arena& a) { router.measure_backward(a, call.shape(), 1); });
    moe::Arena arena = memory.arena();
    moe::SerialExecutor serial;
    router.backward(call.input(), *table, tape, out, &gradients, arena, serial);
    const auto loss = [&] {
      double sum = 0;
      const auto now = handed_on(router, call);
      for (std::size_t i = 0; i < now.size(); ++i) sum += dout[i] * now[i];
      return sum;
    };
    const auto agrees = [&](double& value, double gradient) {
      const double held = value, step = 1e-3;  // the loss is linear in each
      value = held + step;
      const double up = loss();
      value = held - step;
      const double down = loss();
      value = held;
      CHECK(std::abs((up - down) / (2 * step) - gradient) < 1e-10);
    };
    for (std::size_t i = 0; i < dx.size(); ++i) agrees(call.x[i], dx[i]);
    auto& carry = call.columns.reals.at("carry");
    for (std::size_t i = 0; i < carry.size(); ++i) agrees(carry[i], dcarry[i]);
    for (const auto& e : test::elements(router, gradients)) agrees(*e.value, *e.gradient);
  }
}

TEST_CASE("gating residual: carries that are not finite show in their own row alone", "[gating_residual]") {
  auto router = router_of(Residual(linear()));
  test::randomise(router, 3);
  router.set_non_finite(moe::NonFinite::isolate_row);
  const auto call = call_with_carry();
  const auto whole = test::route(router, call);
  constexpr double kInf = std::numeric_limits<double>::infinity();
  for (const double bad : {kInf, -kInf, std::nan("")}) {
    auto spoiled = call;
    spoiled.columns.reals.at("carry")[2 * kOutputs + 1] = bad;
    const auto routed = test::route(router, spoiled);
    const auto handed = handed_on(router, spoiled);
    for (Index t = 0; t < kTokens; ++t) {
      CHECK(routed.spoiled[static_cast<std::size_t>(t)] == (t == 2));
      if (t != 2) CHECK(test::same_row(whole, t, routed, t));
      if (t == 2) CHECK(handed[2 * kOutputs] == 0);
    }
  }
}

TEST_CASE("gating residual: refuses a scorer that hands something on itself", "[gating_residual]") {
  CHECK_THROWS_AS(moe::GatingResidual<Residual>(Residual(linear())), moe::config_error);
  CHECK_NOTHROW(moe::GatingResidual<Residual>(Residual(linear(), false)));
  auto router = router_of(Residual(linear()));
  auto other = router_of(Residual(Linear({.width = kWidth, .outputs = kOutputs + 1})));
  auto foreign = other.make_gradients();
  CHECK_THROWS_AS(test::elements(router, foreign), moe::shape_error);
}
