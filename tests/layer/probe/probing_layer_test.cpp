#include "moe/layer/probe/probing_layer.hpp"

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/call/observer.hpp"
#include "moe/layer/concept.hpp"
#include "moe/layer/probe/autonomy_of_experts.hpp"
#include "moe/layer/probe/compete_smoe.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "support/any_executor.hpp"
#include "support/catch.hpp"
#include "support/same_bits.hpp"
#include "support/visits.hpp"

namespace {

using moe::Index;
using Values = std::vector<double>;
using Layer = moe::AutonomyOfExperts<double>;
static_assert(moe::TokenLayer<Layer>);

constexpr Index kTokens = 6, kWidth = 4;

Values normal(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> draw;
  Values v(kTokens * kWidth);
  for (double& a : v) a = draw(random);
  return v;
}
Layer autonomous() {
  Layer layer =
      moe::autonomy_of_experts<double>({.width = kWidth, .experts = 3, .hidden = 5, .probe = 2, .k = 1});
  layer.experts().initialise(1);
  return layer;
}
moe::MatrixView<double> view(Values& v) {
  return {v.data(), kTokens, kWidth};
}
moe::ConstMatrixView<double> view(const Values& v) {
  return {v.data(), kTokens, kWidth};
}

struct Seen final : moe::Observer<double> {
  Values logit, response;
  Index slots = 0;
  void see(const moe::CallView<double>& call) override {
    slots = call.plan.slots();
    for (Index i = 0; i < 3 * kTokens; ++i) logit.push_back(call.logit(i / 3, i % 3));
  }
};

}  // namespace

TEST_CASE("ProbingLayer: a refused call leaves the tape, its probes included, as it was", "[probe]") {
  const Layer layer = autonomous();
  const Values x = normal(1), dy = normal(2);
  Values y(x.size()), dx(x.size()), again(x.size());
  moe::Workspace workspace;
  auto tape = layer.make_tape();
  moe::LayerOutput<double> out(view(y));
  layer.forward_train(view(x), out, tape, workspace, test::serial());
  const Values kept = y;
  layer.backward(tape, {view(dy), view(dx)}, workspace, test::serial());
  Values bad = normal(3);
  bad[5] = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(layer.forward_train(view(bad), out, tape, workspace, test::serial()), moe::numeric_error);
  CHECK(test::same_bits(y, kept));
  layer.backward(tape, {view(dy), view(again)}, workspace, test::serial());
  CHECK(test::same_bits(again, dx));
}

TEST_CASE("ProbingLayer: observer, statistics, capacity; what it cannot obey is refused", "[probe]") {
  const Layer layer = autonomous();
  const Values x = normal(1), dy = normal(2);
  Values y(x.size()), carry(x.size());
  moe::Workspace workspace;
  auto tape = layer.make_tape();
  moe::LayerOutput<double> out(view(y));
  moe::RouteStats stats;
  Seen seen;
  out.stats = &stats;
  out.observer = &seen;
  layer.forward_train(view(x), out, tape, workspace, test::serial());
  CHECK(stats.tokens == kTokens);
  CHECK(stats.pairs() == kTokens);
  CHECK(seen.slots == kTokens);
  for (Index i = 0; i < 3 * kTokens; ++i)
    CHECK(seen.logit[static_cast<std::size_t>(i)] == tape.probes().response(i / 3, i % 3));
  out.observer = nullptr;
  out.carry = view(carry);
  CHECK_THROWS_AS(layer.forward(view(x), out, workspace, test::serial()), moe::config_error);

  Layer::LayerGradients gradients(view(dy), {});
  gradients.frozen_pair = std::vector<bool>(kTokens, true);
  CHECK_THROWS_AS(layer.backward(tape, gradients, workspace, test::serial()), moe::config_error);
  gradients.frozen_pair = {};
  Values router_dx(x.size());
  gradients.router_dx = view(router_dx);
  CHECK_THROWS_AS(layer.backward(tape, gradients, workspace, test::serial()), moe::config_error);

  using Router = std::remove_cvref_t<decltype(layer.router())>;
  using Bank = std::remove_cvref_t<decltype(layer.experts())>;
  moe::ProbingLayer<Router, Bank, moe::FixedCapacity> tight(layer.router(), layer.experts(),
                                                            moe::FixedCapacity({.factor = 0.5}));
  moe::RouteStats limited;
  moe::LayerOutput<double> some(view(y), &limited);
  moe::LayerInput<double> in(view(x));
  in.mode = moe::Mode::training;
  tight.forward(in, some, workspace, test::serial());
  CHECK(limited.dropped > 0);

  CHECK_THROWS_AS((moe::ProbingLayer<Router, Bank>(
                      layer.router(), Bank({.experts = 2, .width = 4, .probe = 2, .hidden = 3}))),
                  moe::config_error);
  Layer moved = autonomous();
  const Layer taken = std::move(moved);
  moe::LayerOutput<double> plain(view(y));
  CHECK_THROWS_AS(moved.forward(view(x), plain, workspace, test::serial()), moe::state_error);
  taken.forward(view(x), plain, workspace, test::serial());
}

TEST_CASE("ProbingLayer: a router that reads rows of its own gets their gradient", "[probe]") {
  using Glu = moe::Glu<moe::Silu, double>;
  moe::CompeteOptions options{.router = {.width = kWidth, .experts = 3, .k = 2}};
  options.rate = 1;
  options.distill = 2;
  options.diversity = options.load_balance = 0;
  Glu bank({.experts = 3, .width = kWidth, .hidden = 5});
  bank.initialise(3);
  auto layer = moe::compete_smoe(bank, options);
  layer.router().router().scorer().initialise(4);
  const Values x = normal(1), dy = normal(2);
  Values r = normal(5), y(x.size()), dx(x.size()), router_dx(x.size(), 7);
  moe::Workspace workspace;
  auto tape = layer.make_tape();
  const auto loss = [&] {
    moe::LayerInput<double> in(view(x));
    in.router_x = view(r);
    moe::LayerOutput<double> out(view(y));
    layer.forward_train(in, out, tape, workspace, test::serial());
    return out.losses.total();
  };
  loss();
  decltype(layer)::LayerGradients gradients(view(dy), view(dx));
  gradients.router_dx = view(router_dx);
  layer.backward(tape, gradients, workspace, test::serial());
  for (std::size_t i = 0; i < r.size(); ++i) {  // y does not see them, nor does the constant target
    const double old = r[i], h = 1e-6;
    r[i] = old + h;
    const double above = loss();
    r[i] = old - h;
    const double below = loss();
    r[i] = old;
    CHECK(std::abs((above - below) / (2 * h) - router_dx[i]) <= 1e-8);
  }
}

TEST_CASE("ProbingLayer: in float, within the roundings of float", "[probe]") {
  const auto run = [](auto layer, std::vector<double>& dx_wide) {
    using L = decltype(layer);
    using Real = typename L::Real;
    const Values x = normal(1), dy = normal(2);
    const std::vector<Real> rows(x.begin(), x.end()), back(dy.begin(), dy.end());
    std::vector<Real> y(x.size()), dx(x.size());
    moe::Workspace workspace;
    auto tape = layer.make_tape();
    auto gradients = layer.make_gradients();
    moe::LayerOutput<Real> out(moe::MatrixView<Real>(y.data(), kTokens, kWidth));
    layer.forward_train(moe::ConstMatrixView<Real>(rows.data(), kTokens, kWidth), out, tape, workspace,
                        test::serial());
    layer.backward(tape,
                   {moe::ConstMatrixView<Real>(back.data(), kTokens, kWidth),
                    moe::MatrixView<Real>(dx.data(), kTokens, kWidth), gradients},
                   workspace, test::serial());
    dx_wide.assign(dx.begin(), dx.end());
    return Values(y.begin(), y.end());
  };
  const auto compare = [&](const auto& make) {
    Values dx, narrow_dx;
    const Values y = run(make(double{}), dx), narrow = run(make(float{}), narrow_dx);
    for (std::size_t i = 0; i < y.size(); ++i) {
      CHECK(std::abs(y[i] - narrow[i]) <= 1e-5);
      CHECK(std::abs(dx[i] - narrow_dx[i]) <= 1e-5);
    }
  };
  compare([](auto real) {
    using Real = decltype(real);
    auto layer =
        moe::autonomy_of_experts<Real>({.width = kWidth, .experts = 3, .hidden = 5, .probe = 2, .k = 2});
    layer.experts().initialise(1);
    return layer;
  });
  compare([](auto real) {
    using Glu = moe::Glu<moe::Silu, decltype(real)>;
    moe::CompeteOptions options{.router = {.width = kWidth, .experts = 3, .k = 2}};
    options.rate = 1;
    Glu bank({.experts = 3, .width = kWidth, .hidden = 5});
    bank.initialise(3);
    auto layer = moe::compete_smoe(std::move(bank), options);
    layer.router().router().scorer().initialise(4);
    return layer;
  });
}

TEST_CASE("ProbingLayer: experts in a block storage compete, and show their blocks", "[probe]") {
  using Float = moe::Glu<moe::Silu, float>;
  using Packed = moe::Glu<moe::Silu, moe::BFloat16>;
  Float wide({.experts = 3, .width = 32, .hidden = 32});
  wide.initialise(2);
  moe::CompeteOptions options{.router = {.width = 32, .experts = 3, .k = 2}};
  options.rate = 1;
  const auto layer = moe::compete_smoe(Packed(wide), options);
  Index bytes = 0, parameters = 0;
  layer.visit_packed([&](const char*, const std::byte*, Index n) { bytes += n; });
  test::visit_layer(layer, [&](const auto&) { ++parameters; });
  CHECK(bytes == layer.experts().inner().bytes());
  CHECK(parameters == 1);  // the router's
  const std::vector<float> x(64, 0.5f), dy(64, 1);
  std::vector<float> y(64), dx(64);
  moe::Workspace workspace;
  auto tape = layer.make_tape();
  auto gradients = layer.make_gradients();
  moe::LayerOutput<float> out(moe::MatrixView<float>(y.data(), 2, 32));
  layer.forward_train(moe::ConstMatrixView<float>(x.data(), 2, 32), out, tape, workspace, test::serial());
  layer.backward(
      tape,
      {moe::ConstMatrixView<float>(dy.data(), 2, 32), moe::MatrixView<float>(dx.data(), 2, 32), gradients},
      workspace, test::serial());
  for (std::size_t i = 0; i < 64; ++i) CHECK(std::isfinite(y[i] + dx[i]));
  CHECK(test::same_bits(std::vector<float>(y.begin(), y.begin() + 32),
                        std::vector<float>(y.begin() + 32, y.end())));
}

TEST_CASE("ProbingLayer: by turns of rows, with the bits of all at once, and memory for a turn", "[probe]") {
  constexpr Index kMany = 23;
  Values x(kMany * kWidth);
  std::mt19937_64 random(9);
  std::normal_distribution<double> draw;
  for (double& v : x) v = draw(random);
  x[5 * kWidth] = x[13 * kWidth + 1] = std::numeric_limits<double>::quiet_NaN();
  std::vector<bool> valid(kMany, true);
  valid[5] = valid[20] = false;
  Layer layer = autonomous();
  layer.router().inner().set_non_finite(moe::NonFinite::isolate_row);
  moe::Workspace workspace;
  const auto run = [&](Index rows, moe::RouteStats& stats) {
    layer.set_rows_at_a_time(rows);
    Values y(x.size(), 7);
    moe::LayerInput<double> in(moe::ConstMatrixView<double>(x.data(), kMany, kWidth));
    in.valid = valid;
    moe::LayerOutput<double> out(moe::MatrixView<double>(y.data(), kMany, kWidth), &stats);
    layer.forward(in, out, workspace, test::serial());
    return y;
  };
  moe::RouteStats all;
  const Values want = run(kMany, all);
  for (const Index rows : {1, 4, 22}) {
    moe::RouteStats some;
    CHECK(test::same_bits(run(rows, some), want));
    CHECK((some.tokens == all.tokens && some.spoiled == 1 && some.pairs() == all.pairs()));
    for (Index e = 0; e < 3; ++e) CHECK(some.gate_mass[e] == all.gate_mass[e]);
  }

  // Beyond a turn only y grows; a call that trains keeps all probes.
  layer.set_rows_at_a_time(8);
  const Index one = layer.workspace_bytes(4000) - layer.workspace_bytes(2000);
  CHECK(std::abs(one - 2000 * kWidth * Index{sizeof(double)}) <= 256);
  const Index taped =
      layer.workspace_bytes(4000, moe::Mode::training) - layer.workspace_bytes(2000, moe::Mode::training);
  CHECK(taped > 2000 * 3 * 2 * Index{sizeof(double)});
  for (const Index bad : {0, -1}) CHECK_THROWS_AS(layer.set_rows_at_a_time(bad), moe::config_error);
}

TEST_CASE("ProbingLayer: what later rows refuse leaves y and counts as they were; observers see all rows",
          "[probe]") {
  Layer layer = autonomous();
  layer.set_rows_at_a_time(2);
  Values x = normal(1), y(x.size(), 7);
  moe::Workspace workspace;
  moe::RouteStats stats;
  moe::LayerOutput<double> out(view(y), &stats);
  layer.forward(view(x), out, workspace, test::serial());
  Seen seen;
  out.observer = &seen;
  const Values kept = y;
  layer.forward(view(x), out, workspace, test::serial());
  CHECK((seen.slots == kTokens && static_cast<Index>(seen.logit.size()) == 3 * kTokens));
  CHECK(test::same_bits(y, kept));
  CHECK(stats.pairs() == 2 * kTokens);
  out.observer = nullptr;
  x[5 * kWidth] = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(layer.forward(view(x), out, workspace, test::serial()), moe::numeric_error);
  CHECK(test::same_bits(y, kept));
  CHECK((stats.pairs() == 2 * kTokens && stats.tokens == 2 * kTokens));
}
