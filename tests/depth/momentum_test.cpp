#include "moe/depth/momentum.hpp"

#include <cmath>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include "moe/depth/chain.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/rmoe.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"
#include "support/depth_calls.hpp"
#include "support/errors.hpp"
#include "support/layer_laws.hpp"
#include "support/same_bits.hpp"
#include "support/taken.hpp"

namespace {

using moe::Index;
using test::Values;
using Bank = moe::Mlp<moe::Silu, double>;
using Inner = moe::MoeLayer<moe::SoftmaxTopK<double>, Bank>;
using Row = test::PlainMixture::Row;

constexpr Index kTokens = 5, kWidth = 4, kExperts = 3;

Inner layer(moe::NonFinite non_finite = moe::NonFinite::throw_) {
  return Inner(
      moe::softmax_top_k<double>({.width = kWidth, .experts = kExperts, .k = 2, .non_finite = non_finite}),
      Bank({.experts = kExperts, .width = kWidth, .hidden = 3}));
}
template <class M>
moe::Chain<M> chain(Index count, const M& of) {
  return moe::Chain(std::vector<M>(static_cast<std::size_t>(count), of));
}
auto rows(const Values& x) {
  return test::rows_of(x, kWidth);
}
auto rows(Values& x) {
  return test::rows_of(x, kWidth);
}
const Values kX = test::normal_rows(3, kTokens, kWidth), kDy = test::normal_rows(4, kTokens, kWidth);

/// Row t of a chain of `count` momentum layers, in plain loops: the moments after every layer, and x.
struct Plain {
  std::vector<Row> u;
  Row x;
};
template <class Chain, class Step>
Plain plain_row(const Chain& of, Index t, int count, const Step& step) {
  Plain plain{{}, test::plain_row(kX, t, kWidth)};
  for (int i = 0; i < count; ++i) {
    const std::string prefix = "step" + std::to_string(i) + ".";
    plain.u.push_back(test::PlainMixture(of, prefix, prefix, 2)(plain.x));
    step(plain);
  }
  return plain;
}
template <class M>
Values forward(const M& of) {
  Values y(kX.size());
  moe::LayerOutput<double> out(rows(y));
  moe::Workspace workspace;
  of.forward(rows(kX), out, workspace, test::serial());
  return y;
}
Values row(const Values& y, Index t) {
  return {y.begin() + t * kWidth, y.begin() + (t + 1) * kWidth};
}

}  // namespace

TEST_CASE("momentum keeps the laws of layers; three layers back by differences", "[depth]") {
  const moe::HeavyBallOptions minus{.mu = 0.9, .gamma = 0.6, .sign = moe::StepSign::minus};
  test::check_layer("momentum", [&] { return moe::momentum_smoe(layer(), minus); });
  test::check_layer("three of them", [&] { return chain(3, moe::momentum_smoe(layer(), minus)); });
  // An epsilon that keeps the third derivatives small enough for differences.
  const moe::AdamMomentsOptions adam{.beta2 = 0.9, .gamma = 0.7, .epsilon = 0.1, .residual = 0.5};
  test::check_layer("adam", [&] { return moe::adam_smoe(layer(), adam); });
  test::check_layer("three of them", [&] { return chain(3, moe::adam_smoe(layer(), adam)); });
}

TEST_CASE("Adam first and momentum behind it, as the authors have it, keep the laws", "[depth]") {
  test::check_layer("adam, momentum", [] {
    moe::AdamMomentsOptions first{.beta2 = 0.9, .epsilon = 0.1, .carries_square = false};
    return moe::Chain(std::tuple(moe::adam_smoe(layer(), first), moe::momentum_smoe(layer())));
  });
  // Layers over one bank: it is shown once.
  static Bank bank({.experts = kExperts, .width = kWidth, .hidden = 3});
  using Shared = moe::MomentumSmoe<moe::MoeLayer<moe::SoftmaxTopK<double>, Bank&>>;
  const auto make = [] {
    std::vector<Shared> layers;
    for (int i = 0; i < 2; ++i) {
      layers.push_back(
          Shared({moe::softmax_top_k<double>({.width = kWidth, .experts = kExperts, .k = 2}), bank}));
    }
    return moe::Chain(std::move(layers));
  };
  test::check_layer("over one bank", make);
  Index shown = 0;
  test::visit_layer(make(), [&](const auto&) { ++shown; });
  CHECK(shown == 2 + 2 * kExperts);
}

TEST_CASE("momentum 0 is a plain residual, to the bit", "[depth][smoke]") {
  for (const moe::StepSign sign : {moe::StepSign::plus, moe::StepSign::minus}) {
    auto none = moe::momentum_smoe(layer(), {.mu = 0, .gamma = 1, .sign = sign});
    test::draw_parameters(none, 2);
    Values u(kX.size()), y(kX.size());
    moe::LayerOutput<double> inner(rows(u)), out(rows(y));
    moe::Workspace workspace;
    none.layer().forward(rows(kX), inner, workspace, test::serial());
    const Values before = test::normal_rows(9, kTokens, kWidth);
    moe::LayerInput<double> in(rows(kX));
    in.carry = rows(before);
    none.forward(in, out, workspace, test::serial());
    for (std::size_t i = 0; i < u.size(); ++i) {
      CHECK(y[i] == (sign == moe::StepSign::plus ? kX[i] + u[i] : kX[i] - u[i]));
    }
  }
}

TEST_CASE("layers of momentum: x + sum over layers of mu^j u, in plain loops", "[depth]") {
  const double mu = 0.7, gamma = 0.6;
  for (const moe::StepSign sign : {moe::StepSign::plus, moe::StepSign::minus}) {
    auto three = chain(3, moe::momentum_smoe(layer(), {.mu = mu, .gamma = gamma, .sign = sign}));
    test::draw_parameters(three, 2);
    const Values y = forward(three);
    for (Index t = 0; t < kTokens; ++t) {
      const Plain plain = plain_row(three, t, 3, [&](Plain& at) {
        const long double toward = sign == moe::StepSign::plus ? 1 : -1;
        for (std::size_t j = 0; j < at.x.size(); ++j) {
          long double p = 0;
          for (std::size_t l = 0; l < at.u.size(); ++l) {
            p += std::pow(static_cast<long double>(mu), static_cast<int>(at.u.size() - 1 - l)) * gamma *
                 at.u[l][j];
          }
          at.x[j] += toward * p;
        }
      });
      CHECK(test::close_rows(row(y, t), plain.x, 1e-13));  // three mixtures of order 1
    }
  }
}

TEST_CASE("layers of Adam's moments in plain loops: with the residual, and with the authors' x - (step + x)",
          "[depth]") {
  const double b1 = 0.8, b2 = 0.9, gamma = 0.6, epsilon = 1e-3;
  for (const double residual : {1.0, 0.0, 2.0}) {
    auto two = chain(2, moe::adam_smoe(layer(), {.beta1 = b1,
                                                 .beta2 = b2,
                                                 .gamma = gamma,
                                                 .epsilon = epsilon,
                                                 .sign = moe::StepSign::minus,
                                                 .residual = residual}));
    test::draw_parameters(two, 2);
    const Values y = forward(two);
    for (Index t = 0; t < kTokens; ++t) {
      const Plain plain = plain_row(two, t, 2, [&](Plain& at) {
        for (std::size_t j = 0; j < at.x.size(); ++j) {
          long double p = 0, v = 0;
          for (const Row& u : at.u) {
            p = b1 * p + (1 - b1) * u[j];
            v = b2 * v + (1 - b2) * u[j] * u[j];
          }
          at.x[j] = residual * at.x[j] - gamma * p / std::sqrt(v + epsilon);
        }
      });
      CHECK(test::close_rows(row(y, t), plain.x, 1e-12));  // errors of u over sqrt(epsilon)
    }
  }
}

TEST_CASE("moments are handed on: p, and p beside v; a layer alone starts from them", "[depth]") {
  const Values x = test::normal_rows(3, kTokens, kWidth);
  const auto check = [&](auto two, Index columns) {
    test::draw_parameters(two, 2);
    REQUIRE(two.carry_width() == columns);
    Values whole(x.size()), y(x.size()), h(x.size());
    Values out_carry(static_cast<std::size_t>(kTokens * columns)), carry(out_carry), last(out_carry);
    moe::Workspace workspace;
    moe::LayerOutput<double> out(test::rows_of(whole, kWidth));
    out.carry = test::rows_of(out_carry, columns);
    two.forward(test::rows_of(x, kWidth), out, workspace, test::serial());
    moe::LayerOutput<double> first(test::rows_of(h, kWidth)), second(test::rows_of(y, kWidth));
    first.carry = test::rows_of(carry, columns);
    second.carry = test::rows_of(last, columns);
    two.layers()[0].forward(test::rows_of(x, kWidth), first, workspace, test::serial());
    moe::LayerInput<double> in(test::rows_of(std::as_const(h), kWidth));
    in.carry = test::rows_of(std::as_const(carry), columns);
    two.layers()[1].forward(in, second, workspace, test::serial());
    CHECK(test::same_bits(whole, y));
    CHECK(test::same_bits(out_carry, last));
  };
  check(chain(2, moe::momentum_smoe(layer())), kWidth);
  check(chain(2, moe::adam_smoe(layer())), 2 * kWidth);
}

TEST_CASE("gradients through the moments that come in and go out, by differences", "[depth]") {
  const auto check = [&](auto two) {
    test::draw_parameters(two, 2);
    const Index columns = two.carry_width();
    Values carry = test::normal_rows(8, kTokens, columns), out_carry(carry.size()), dcarry(carry.size());
    for (double& v : carry) v = std::abs(v);  // v is a square
    const Values dout = test::normal_rows(9, kTokens, columns);
    Values y(kX.size()), dx(kX.size());
    moe::LayerInput<double> in(rows(kX));
    in.carry = test::rows_of(std::as_const(carry), columns);
    moe::LayerOutput<double> out(rows(y));
    out.carry = test::rows_of(out_carry, columns);
    auto tape = two.make_tape();
    moe::Workspace workspace;
    const auto loss = [&] {
      two.forward_train(in, out, tape, workspace, test::serial());
      double sum = 0;
      for (std::size_t i = 0; i < y.size(); ++i) sum += kDy[i] * y[i];
      for (std::size_t i = 0; i < carry.size(); ++i) sum += dout[i] * out_carry[i];
      return sum;
    };
    loss();
    auto gradients = two.make_gradients();
    typename decltype(two)::LayerGradients to(rows(kDy), rows(dx), gradients);
    to.auxiliary_scale = 0;
    to.dcarry_out = test::rows_of(dout, columns);
    to.dcarry = test::rows_of(dcarry, columns);
    two.backward(tape, to, workspace, test::serial());
    for (std::size_t i = 0; i < carry.size(); ++i) {
      const double old = carry[i], h = 1e-4;
      const auto at = [&](double value) {
        carry[i] = value;
        const double f = loss();
        carry[i] = old;
        return f;
      };
      const double near = (at(old + h) - at(old - h)) / (2 * h),
                   far = (at(old + 2 * h) - at(old - 2 * h)) / (4 * h);
      CHECK(std::abs((4 * near - far) / 3 - dcarry[i]) <=
            std::abs(near - far) + 1e-10);  // loss of order 10 over h
    }
  };
  check(chain(2, moe::momentum_smoe(layer(), {.mu = 0.9, .gamma = 0.6, .sign = moe::StepSign::minus})));
  check(chain(2, moe::adam_smoe(layer(), {.beta2 = 0.9, .epsilon = 0.1})));
}

TEST_CASE("rows that take no part, and isolated ones, hand on 0 and get no gradient", "[depth]") {
  auto one = moe::adam_smoe(layer(moe::NonFinite::isolate_row));
  test::draw_parameters(one, 2);
  Values x = kX, dy = kDy, carry = test::normal_rows(8, kTokens, 2 * kWidth), out_carry(carry.size(), 7),
         dcarry(out_carry);
  x[kWidth] = std::numeric_limits<double>::infinity();  // row 1 is isolated
  for (Index j = 0; j < kWidth; ++j) dy[static_cast<std::size_t>(kWidth + j)] = NAN;
  const bool valid[] = {true, true, false, true, true};
  for (double& v : carry) v = std::abs(v);
  carry[2 * 2 * kWidth] = NAN;  // of the row that takes no part
  moe::LayerInput<double> in(rows(std::as_const(x)));
  in.valid = valid;
  in.carry = test::rows_of(std::as_const(carry), 2 * kWidth);
  Values y(x.size()), dx(x.size());
  moe::LayerOutput<double> out(rows(y));
  out.carry = test::rows_of(out_carry, 2 * kWidth);
  auto tape = one.make_tape();
  moe::Workspace workspace;
  one.forward_train(in, out, tape, workspace, test::serial());
  auto gradients = one.make_gradients();
  decltype(one)::LayerGradients to(rows(std::as_const(dy)), rows(dx), gradients);
  to.dcarry = test::rows_of(dcarry, 2 * kWidth);
  one.backward(tape, to, workspace, test::serial());
  for (Index t = 0; t < kTokens; ++t) {
    for (Index j = 0; j < 2 * kWidth; ++j) {
      const bool none = t == 1 || t == 2;
      CHECK((out_carry[static_cast<std::size_t>(2 * t * kWidth + j)] == 0) == none);
      CHECK((dcarry[static_cast<std::size_t>(2 * t * kWidth + j)] == 0) == none);
    }
    for (Index j = 0; j < kWidth; ++j) {
      const auto i = static_cast<std::size_t>(t * kWidth + j);
      CHECK(std::isnan(y[i]) == (t == 1));
      if (t == 2) CHECK(y[i] == 0);
      CHECK((dx[i] == 0) == (t == 1 || t == 2));
    }
  }
  for (const double g : test::flat_gradients(one, gradients)) CHECK(std::isfinite(g));
}

TEST_CASE("moments that are none are refused with their token, but for rows that take no part", "[depth]") {
  auto adam = moe::adam_smoe(layer(), {});
  test::draw_parameters(adam, 2);
  Values y(kX.size()), moments(2 * kX.size(), 0.5);
  moe::LayerOutput<double> out(rows(y));
  moe::Workspace workspace;
  const auto forward = [&](const bool* valid) {
    moe::LayerInput<double> in(rows(kX));
    in.carry = moe::ConstMatrixView<double>(moments.data(), kTokens, 2 * kWidth);
    if (valid != nullptr) in.valid = std::span<const bool>(valid, static_cast<std::size_t>(kTokens));
    adam.forward(in, out, workspace, test::serial());
  };
  forward(nullptr);
  const bool valid[kTokens] = {true};
  const auto v = static_cast<std::size_t>(2 * kWidth + kWidth);  // of the second row
  for (const double bad : {-0.25, std::nan("")}) {
    moments[v] = bad;
    CHECK(test::message_of<moe::numeric_error>([&] { forward(nullptr); }).find("for token 1") !=
          std::string::npos);
    forward(valid);
  }
}

TEST_CASE("momentum refuses options out of range and what it cannot do", "[depth]") {
  const double nan = std::nan("");
  for (const double bad : {-0.1, 1.0, nan}) {
    CHECK_THROWS_AS(moe::HeavyBall({.mu = bad}), moe::config_error);
    CHECK_THROWS_AS(moe::AdamMoments({.beta1 = bad}), moe::config_error);
    CHECK_THROWS_AS(moe::AdamMoments({.beta2 = bad}), moe::config_error);
  }
  const double inf = std::numeric_limits<double>::infinity();
  for (const double bad : {inf, nan}) {
    CHECK_THROWS_AS(moe::HeavyBall({.gamma = bad}), moe::config_error);
    CHECK_THROWS_AS(moe::AdamMoments({.gamma = bad}), moe::config_error);
    CHECK_THROWS_AS(moe::AdamMoments({.residual = bad}), moe::config_error);
    CHECK_THROWS_AS(moe::AdamMoments({.epsilon = bad}), moe::config_error);
  }
  CHECK_THROWS_AS(moe::AdamMoments({.epsilon = 0}), moe::config_error);
  using Carrying = moe::MoeLayer<moe::RmoeRouter<double, moe::GruCell<double>>, Bank>;
  CHECK_THROWS_AS(
      moe::momentum_smoe(Carrying(
          moe::rmoe_router(moe::GruCell<double>(3, 2), {.width = kWidth, .experts = kExperts, .k = 2}),
          Bank({.experts = kExperts, .width = kWidth, .hidden = 3}))),
      moe::config_error);

  auto one = moe::momentum_smoe(layer());
  Values y(kX.size(), 7), carry(kX.size());
  moe::LayerInput<double> in(rows(kX));
  moe::LayerOutput<double> out(rows(y));
  moe::Workspace workspace;
  in.carry = test::rows_of(kX, 2);
  CHECK_THROWS_AS(one.forward(in, out, workspace, test::serial()), moe::shape_error);
  in.carry = rows(std::as_const(carry));
  out.carry = rows(carry);
  CHECK_THROWS_AS(one.forward(in, out, workspace, test::serial()), moe::shape_error);  // one memory
  in.carry = {};
  out.carry = {};
  auto tape = one.make_tape();
  one.forward_train(in, out, tape, workspace, test::serial());
  auto gradients = one.make_gradients();
  Values dx(kX.size());
  decltype(one)::LayerGradients to(rows(kDy), rows(dx), gradients);
  to.dcarry = rows(carry);
  CHECK_THROWS_AS(one.backward(tape, to, workspace, test::serial()), moe::config_error);  // none came
  const auto moved = test::taken(one);
  CHECK_THROWS_AS(one.forward(in, out, workspace, test::serial()), moe::state_error);
}

TEST_CASE("a const momentum layer shows its ranges as something to read", "[depth]") {
  const auto of = moe::momentum_smoe(layer());
  auto gradients = of.make_gradients();
  Index seen = 0, want = 0;
  of.visit_storage(gradients, [&](const char*, const double*, double*, Index n) { seen += n; });
  of.layer().visit_storage(gradients, [&](const char*, const double*, double*, Index n) { want += n; });
  CHECK((seen == want && seen > 0));
}
