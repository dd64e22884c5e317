#include "moe/depth/graph_moe.hpp"

#include <cmath>
#include <string>
#include <utility>

#include "moe/expert/bank/mlp.hpp"
#include "moe/kernel/activation.hpp"
#include "support/catch.hpp"
#include "support/depth_calls.hpp"
#include "support/layer_laws.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::Index;
using test::Values;
using Bank = moe::Mlp<moe::Silu, double>;
using Router = moe::RmoeRouter<double, moe::GruCell<double>>;
using Round = moe::MoeLayer<Router&, Bank&>;

constexpr Index kTokens = 5, kWidth = 4, kExperts = 3, kState = 2;

Router router() {
  Router made =
      moe::rmoe_router(moe::GruCell<double>(3, kState), {.width = kWidth, .experts = kExperts, .k = 2});
  made.scorer().initialise(4);
  return made;
}
Bank bank() {
  Bank made({.experts = kExperts, .width = kWidth, .hidden = 3});
  made.initialise(5);
  return made;
}
auto rows(const Values& x) {
  return test::rows_of(x, kWidth);
}
auto rows(Values& x) {
  return test::rows_of(x, kWidth);
}
auto states(Values& x) {
  return test::rows_of(x, kState);
}

}  // namespace

TEST_CASE("GraphMoE keeps the laws of layers, three rounds back by differences", "[depth]") {
  static Router one = router();
  static Bank experts = bank();
  test::check_layer("graph moe", [] { return moe::graph_moe({.rounds = 3}, one, experts); });
  test::check_layer("graph moe, residual", [] {
    return moe::graph_moe({.rounds = 2, .residual = moe::Residual::inner}, one, experts);
  });
}

TEST_CASE("GraphMoE: one round from a state of zero is one pass, two are the layer called twice by hand",
          "[depth]") {
  Router one = router();
  Bank experts = bank();
  Round layer(one, experts);
  const Values x = test::normal_rows(6, kTokens, kWidth), dy = test::normal_rows(7, kTokens, kWidth);
  auto once = moe::graph_moe({.rounds = 1}, one, experts);
  test::Trained a(once, rows(x), dy);
  test::Trained b(layer, rows(x), dy);
  CHECK(test::same_bits(a.y, b.y));
  CHECK(test::same_bits(a.dx, b.dx));
  CHECK(test::flat_gradients(once, a.gradients) == test::flat_gradients(layer, b.gradients));

  auto twice = moe::graph_moe({.rounds = 2}, one, experts);
  test::Trained both(twice, rows(x), dy);
  Values h(x.size()), y(x.size()), state(kTokens * kState), dstate(state.size()), dh(x.size()), dx(x.size());
  auto tapes = std::pair(layer.make_tape(), layer.make_tape());
  auto gradients = layer.make_gradients();
  moe::Workspace workspace;
  moe::LayerOutput<double> first(rows(h)), second(rows(y));
  first.carry = states(state);
  layer.forward_train(rows(x), first, tapes.first, workspace);
  moe::LayerInput<double> in(rows(std::as_const(h)));
  in.carry = states(state);
  layer.forward_train(in, second, tapes.second, workspace);
  CHECK(test::same_bits(both.y, y));
  Round::LayerGradients at_second(rows(dy), rows(dh), gradients);
  at_second.auxiliary_scale = 0.7;
  at_second.dcarry = states(dstate);
  layer.backward(tapes.second, at_second, workspace);
  Round::LayerGradients at_first(rows(std::as_const(dh)), rows(dx), gradients);
  at_first.auxiliary_scale = 0.7;
  at_first.dcarry_out = states(dstate);
  layer.backward(tapes.first, at_first, workspace);
  CHECK(test::same_bits(both.dx, dx));
  CHECK(test::flat_gradients(twice, both.gradients) == test::flat_gradients(layer, gradients));
}

TEST_CASE("GraphMoE hands its state on, with the gradients of both ends", "[depth]") {
  Router one = router();
  Bank experts = bank();
  auto chain = moe::graph_moe({.rounds = 3, .residual = moe::Residual::inner}, one, experts);
  const Values x = test::normal_rows(6, kTokens, kWidth), dy = test::normal_rows(7, kTokens, kWidth);
  const Values dout = test::normal_rows(8, kTokens, kState);
  Values state = test::normal_rows(9, kTokens, kState), out_state(state.size()), dstate(state.size());
  Values y(x.size()), dx(x.size());
  moe::LayerInput<double> in(rows(x));
  in.carry = states(state);
  moe::LayerOutput<double> out(rows(y));
  out.carry = states(out_state);
  auto tape = chain.make_tape();
  moe::Workspace workspace;
  const auto loss = [&] {
    chain.forward_train(in, out, tape, workspace);
    double sum = out.losses.total();
    for (std::size_t i = 0; i < y.size(); ++i) sum += dy[i] * y[i];
    for (std::size_t i = 0; i < out_state.size(); ++i) sum += dout[i] * out_state[i];
    return sum;
  };
  loss();
  auto gradients = chain.make_gradients();
  decltype(chain)::LayerGradients to(rows(dy), rows(dx), gradients);
  to.dcarry_out = test::rows_of(dout, kState);
  to.dcarry = states(dstate);
  chain.backward(tape, to, workspace);
  // Differences of order 4: the loss is of order 10, so rounding of order 10 * 1e-16 / h; twice that over 4
  // calls.
  for (std::size_t i = 0; i < state.size(); ++i) {
    const double old = state[i], h = 1e-4;
    const auto at = [&](double value) {
      state[i] = value;
      const double f = loss();
      state[i] = old;
      return f;
    };
    const double near = (at(old + h) - at(old - h)) / (2 * h),
                 far = (at(old + 2 * h) - at(old - 2 * h)) / (4 * h);
    CHECK(std::abs((4 * near - far) / 3 - dstate[i]) <= std::abs(near - far) + 1e-10);
  }

  // A carry of another width, or a gradient of one that did not come, is refused.
  loss();
  in.carry = test::rows_of(dy, kWidth);
  CHECK_THROWS_AS(chain.forward(in, out, workspace), moe::shape_error);
  in.carry = {};
  loss();
  CHECK_THROWS_AS(chain.backward(tape, to, workspace), moe::config_error);
  to.dcarry = {};
  chain.backward(tape, to, workspace);
}

TEST_CASE("GraphMoE refuses rounds that are none and banks that do not fit", "[depth]") {
  Router one = router();
  Bank experts = bank(), more({.experts = kExperts + 1, .width = kWidth, .hidden = 3});
  CHECK_THROWS_AS(moe::graph_moe({.rounds = 0}, one, experts), moe::config_error);
  CHECK_THROWS_AS(moe::graph_moe({}, one, more), moe::config_error);
}
