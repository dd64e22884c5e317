#include "moe/router/scorer/gru.hpp"

#include <cmath>
#include <limits>

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::Index;
using Cell = moe::GruCell<double>;
using Own = moe::GruScorer<double>;
using Sharing = moe::GruScorer<double, Cell&>;
template <class S>
using RouterOf = moe::TokenChoice<S, moe::Softmax, moe::TopKSelection, moe::GatherWeighting>;
static_assert(moe::CarryingScorer<Own> && moe::CarryingScorer<Sharing>);

constexpr Index kTokens = 6, kWidth = 4, kOutputs = 3, kState = 5;

RouterOf<Own> own_router() {
  return {Own({.width = kWidth, .outputs = kOutputs}, Cell(2, kState)),
          {},
          moe::TopKSelection(2),
          moe::GatherWeighting{}};
}
const test::RouterCases kCases{
    {"gru scorer", own_router, {.ties = false}},  // its biases make logits of rows of zeros
};

struct Scored {
  std::vector<double> logit, carry;
};
template <class S>
Scored score(const S& scorer, const test::RouterCall<double>& call, typename S::Tape* tape = nullptr) {
  Scored s{std::vector<double>(static_cast<std::size_t>(call.tokens * kOutputs)),
           std::vector<double>(static_cast<std::size_t>(call.tokens * kState))};
  moe::Logits<double> out;
  out.value = moe::MatrixView<double>(s.logit.data(), call.tokens, kOutputs);
  out.carry = moe::MatrixView<double>(s.carry.data(), call.tokens, kState);
  test::MeasuredMemory memory([&](moe::Arena& a) { scorer.measure(a, call.tokens, 3); });
  moe::Arena arena = memory.arena();
  test::BackwardsExecutor executor;
  scorer.logits(call.input(), out, tape, arena, executor);
  return s;
}

test::RouterCall<double> call_with_carry(std::uint64_t seed) {
  auto call = test::random_call<double>(kTokens, kWidth, seed);
  test::add_carry(call, kState);
  return call;
}

}  // namespace

TEST_CASE("gru scorer: logits are W2 of the cell's state, which is handed on", "[gru_scorer]") {
  Own scorer({.width = kWidth, .outputs = kOutputs}, Cell(2, kState));
  test::randomise(scorer, 3);
  const auto w1 = test::parameter(scorer, "gate.input.weight"),
             w2 = test::parameter(scorer, "gate.output.weight");
  REQUIRE((w1.size() == 2 && w1[0].size() == 4 && w2.size() == 3 && w2[0].size() == 5));
  const auto call = call_with_carry(1);
  const Scored got = score(scorer, call);
  std::vector<double> q(kTokens * 2), h(kTokens * kState);
  for (std::size_t t = 0; t < kTokens; ++t) {
    for (std::size_t o = 0; o < 2; ++o) {
      for (std::size_t j = 0; j < kWidth; ++j) q[2 * t + o] += w1[o][j] * call.x[t * kWidth + j];
    }
  }
  test::MeasuredMemory memory([&](moe::Arena& a) { scorer.cell().measure(a, kTokens, 1); });
  moe::Arena arena = memory.arena();
  moe::SerialExecutor serial;
  const auto in = call.input();
  scorer.cell().forward(moe::ConstMatrixView<double>(q.data(), kTokens, 2), in.carry,
                        moe::MatrixView<double>(h.data(), kTokens, kState), nullptr, arena, serial);
  for (std::size_t t = 0; t < kTokens; ++t) {
    for (std::size_t j = 0; j < kState; ++j) CHECK(test::near(got.carry[t * kState + j], h[t * kState + j]));
    for (std::size_t e = 0; e < kOutputs; ++e) {
      double want = 0;
      for (std::size_t j = 0; j < kState; ++j) want += w2[e][j] * h[t * kState + j];
      CHECK(test::near(got.logit[t * kOutputs + e], want));
    }
  }
  Own::Tape tape;
  const Scored taped = score(scorer, call, &tape);
  CHECK((taped.logit == got.logit && taped.carry == got.carry));
}

TEST_CASE("gru scorer: a cell of zeros gives logits 0, an update gate of 1 keeps the state", "[gru_scorer]") {
  Own scorer({.width = kWidth, .outputs = kOutputs}, Cell(2, kState));
  test::set_parameter(scorer, "gate.output.weight", test::Matrix(kOutputs, test::Vector(kState, 0.3)));
  test::set_parameter(scorer, "gate.input.weight", test::Matrix(2, test::Vector(kWidth, 0.4)));
  const auto first = test::random_call<double>(kTokens, kWidth, 1);
  auto none = first;
  none.columns.reals.erase("carry");
  for (const double v : score(scorer, none).logit) CHECK(v == 0);

  test::randomise(scorer, 3);
  test::Matrix bias(3 * kState, test::Vector(1, 0));
  for (std::size_t j = kState; j < 2 * kState; ++j) bias[j][0] = 1e3;
  test::set_parameter(scorer, "gru.input.bias", bias);
  const auto one = call_with_carry(1);
  auto other = call_with_carry(2);  // the same carry
  const Scored a = score(scorer, one), b = score(scorer, other);
  CHECK(a.carry == one.columns.reals.at("carry"));
  CHECK((one.x != other.x && a.logit == b.logit));
}

TEST_CASE("gru scorer: rows or carries that are not finite show in their own logits alone", "[gru_scorer]") {
  auto router = own_router();
  test::randomise(router, 3);
  router.set_non_finite(moe::NonFinite::isolate_row);
  const auto call = call_with_carry(1);
  const auto whole = test::route(router, call);
  for (const bool carry : {false, true}) {
    for (const double bad : {std::numeric_limits<double>::infinity(), std::nan("")}) {
      auto spoiled = call;
      if (carry) {
        spoiled.columns.reals.at("carry")[2 * kState + 1] = bad;
      } else {
        spoiled.x[2 * kWidth + 1] = bad;
      }
      const auto routed = test::route(router, spoiled);
      for (Index t = 0; t < kTokens; ++t) {
        CHECK(routed.spoiled[static_cast<std::size_t>(t)] == (t == 2));
        if (t != 2) CHECK(test::same_row(whole, t, routed, t));
      }
    }
  }
}

TEST_CASE("gru scorer: a shared cell is its owner's, its gradients one object", "[gru_scorer]") {
  Cell cell(2, kState);
  test::randomise(cell, 5);
  RouterOf<Sharing> a(Sharing({.width = kWidth, .outputs = kOutputs}, cell), {}, moe::TopKSelection(2),
                      moe::GatherWeighting{});
  RouterOf<Own> b = own_router();
  test::randomise(a, 6), test::randomise(b, 6);  // the same draws for the same names
  for (const char* const name :
       {"gru.input.weight", "gru.input.bias", "gru.hidden.weight", "gru.hidden.bias"})
    test::set_parameter(b, name, test::parameter(cell, name));
  test::set_parameter(b, "gate.input.weight", test::parameter(a, "gate.input.weight"));
  test::set_parameter(b, "gate.output.weight", test::parameter(a, "gate.output.weight"));
  int shown = 0;
  auto count = [&](const moe::Parameter<double>&) { ++shown; };
  a.visit_parameters(nullptr, count);
  CHECK(shown == 2);

  const auto call = call_with_carry(1);
  const auto gradients_of = [&](auto& router, auto& gradients) {
    using R = std::remove_cvref_t<decltype(router)>;
    typename R::Tape tape;
    test::OwnedTable<double> table(router, call.shape());
    const auto routed = test::route_train(router, call, table, tape);
    return test::backward(router, call, table, tape, test::cotangents(call, routed), 1, &gradients);
  };
  auto of_a = a.make_gradients();
  auto of_b = b.make_gradients();
  CHECK(of_a.scorer.cell == nullptr);
  const auto dx = gradients_of(b, of_b);
  CHECK(gradients_of(a, of_a) == dx);  // frozen
  auto of_cell = cell.make_gradients();
  of_a.scorer.cell = &of_cell;
  gradients_of(a, of_a), gradients_of(a, of_a);  // two users
  const auto twice = test::elements(cell, of_cell),
             once = test::elements(b.scorer().cell(), of_b.scorer.cell);
  REQUIRE((twice.size() == once.size() && !twice.empty()));
  double size = 0;
  for (std::size_t i = 0; i < once.size(); ++i) {
    CHECK(test::near(*twice[i].gradient, 2 * *once[i].gradient));
    size += std::abs(*once[i].gradient);
  }
  CHECK(size > 0.1);

  // Gradients of another cell, and a cell that has changed.
  Cell wider(2, kState + 1);
  auto of_wider = wider.make_gradients();
  of_a.scorer.cell = &of_wider;
  CHECK_THROWS_AS(gradients_of(a, of_a), moe::shape_error);
  cell = wider;
  CHECK_THROWS_AS(test::route(a, call), moe::state_error);
}

TEST_CASE("gru scorer: refuses outputs that are none, starts its own cell and no shared one",
          "[gru_scorer]") {
  CHECK_THROWS_AS(Own({.width = 0, .outputs = 2}, Cell(2, 2)), moe::config_error);
  CHECK_THROWS_AS(Own({.width = 2, .outputs = 0}, Cell(2, 2)), moe::config_error);
  Cell cell(2, 2);
  Sharing sharing({.width = 2, .outputs = 2}, cell);
  sharing.initialise(1);
  Own own({.width = 2, .outputs = 2}, Cell(2, 2));
  own.initialise(1);
  CHECK(test::parameter(cell, "gru.input.weight")[0][0] == 0);
  CHECK(test::parameter(own, "gru.input.weight")[0][0] != 0);
}
