#include "moe/depth/geometric_hops.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "support/catch.hpp"
#include "support/depth_calls.hpp"
#include "support/layer_laws.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::Index;
using test::Values;
using Bank = moe::Glu<moe::Silu, double>;
using Router = moe::CosineTopK<double>;

constexpr Index kTokens = 9, kWidth = 4, kExperts = 5;

/// What hops refer to; lives until the program ends.
struct Parts {
  Router router;
  Bank bank;
};
Parts& parts() {
  static std::vector<std::unique_ptr<Parts>> all;
  all.push_back(std::make_unique<Parts>(
      Parts{moe::cosine_top_k<double>(
                {.width = kWidth, .experts = kExperts, .k = 2, .form = moe::CosineForm::geometric}),
            Bank({.experts = kExperts, .width = kWidth, .hidden = 3})}));
  all.back()->router.scorer().initialise(3);
  all.back()->bank.initialise(4);
  return *all.back();
}
moe::GeometricHops<Bank> hops_of(Index hops, double halt = 0) {
  Parts& of = parts();
  return moe::geometric_hops({.hops = hops, .halt = halt}, of.router, of.bank);
}
template <class L>
Values forward(const L& layer, const Values& x, moe::RouteStats* stats = nullptr) {
  Values y(x.size());
  moe::LayerOutput<double> out(test::rows_of(y, kWidth), stats);
  moe::Workspace workspace;
  layer.forward(test::rows_of(x, kWidth), out, workspace);
  return y;
}
double length(const double* v) {
  double squares = 0;
  for (Index i = 0; i < kWidth; ++i) squares += v[i] * v[i];
  return std::sqrt(squares);
}

}  // namespace

TEST_CASE("geometric hops keep the laws of layers, also where rows halt", "[depth]") {
  test::check_layer(
      "two hops", [] { return hops_of(2); }, [] { return hops_of(3); });
  test::check_layer("halting", [] { return hops_of(3, 0.4); }, {.gradients = false});
}

TEST_CASE("a hop routes the row where the hops before it took it; without an update it is the first again",
          "[depth]") {
  const auto two = hops_of(2);
  moe::MoeLayer<Router&, Bank&> once(const_cast<Router&>(two.layers()[0].router()),
                                     const_cast<Bank&>(two.layers()[0].experts()));
  const Values x = test::normal_rows(5, kTokens, kWidth);
  Values h = x;
  for (int hop = 0; hop < 2; ++hop) {
    const Values update = forward(once, h);
    for (std::size_t i = 0; i < h.size(); ++i) h[i] += update[i];
  }
  CHECK(test::same_bits(forward(two, x), h));

  moe::GeometricHops<Bank> still = hops_of(2);
  still.visit_parameters([](const moe::Parameter<double>& p) {
    if (std::string(p.name).find("down") == std::string::npos) return;
    for (Index i = 0; i < p.value.size(); ++i) p.value(i / p.value.cols, i % p.value.cols) = 0;
  });
  moe::RouteStats first, both;
  forward(still.layers()[0], x, &first);
  CHECK(test::same_bits(forward(still, x, &both), x));
  for (Index e = 0; e < kExperts; ++e) CHECK(both.load[e] == 2 * first.load[e]);
}

TEST_CASE("a row halts where a hop adds less than a part of its length; in training none does", "[depth]") {
  const Values x = test::normal_rows(6, kTokens, kWidth);
  const auto of = [&](Index hops, double halt) {
    auto layer = hops_of(hops, halt);
    test::draw_parameters(layer, 8);
    return layer;
  };
  const Values one = forward(of(1, 0), x), two = forward(of(2, 0), x), three = forward(of(3, 0), x);
  CHECK(test::same_bits(forward(of(3, 1e9), x), one));
  CHECK(test::same_bits(forward(of(3, 1e-9), x), three));
  std::vector<double> ratios;
  const auto ratio = [&](const Values& from, const Values& to, std::size_t at) {
    double step[kWidth];
    for (std::size_t i = 0; i < kWidth; ++i) step[i] = to[at + i] - from[at + i];
    return length(step) / length(&from[at]);
  };
  for (std::size_t t = 0; t < kTokens; ++t) ratios.push_back(ratio(x, one, t * kWidth));
  std::vector<double> sorted = ratios;
  std::sort(sorted.begin(), sorted.end());
  const double halt = (sorted[3] + sorted[4]) / 2;
  moe::RouteStats stats;
  const Values y = forward(of(3, halt), x, &stats);
  Index hopped = 0;
  for (std::size_t t = 0; t < kTokens; ++t) {
    const std::size_t at = t * kWidth;
    const Index hops = ratios[t] < halt ? 1 : (ratio(one, two, at) < halt ? 2 : 3);
    const Values& want = hops == 1 ? one : (hops == 2 ? two : three);
    for (std::size_t i = at; i < at + kWidth; ++i) CHECK(y[i] == want[i]);
    hopped += hops;
  }
  CHECK(hopped < 3 * kTokens);
  CHECK(stats.pairs() == 2 * hopped);

  const auto halting = of(3, halt);
  auto tape = halting.make_tape();
  Values trained(x.size());
  moe::LayerOutput<double> out(test::rows_of(trained, kWidth));
  moe::Workspace workspace;
  halting.forward_train(test::rows_of(x, kWidth), out, tape, workspace);
  CHECK(test::same_bits(trained, three));
}

TEST_CASE("what geometric hops refuse", "[depth]") {
  for (const double bad : {-1.0, std::nan(""), HUGE_VAL}) CHECK_THROWS_AS(hops_of(2, bad), moe::config_error);
  CHECK_THROWS_AS(hops_of(0), moe::config_error);
  Parts& of = parts();
  std::vector<moe::MoeLayer<Router&, Bank&>> steps;
  steps.emplace_back(of.router, of.bank);
  CHECK_THROWS_AS(moe::Chain(std::move(steps), moe::Residual::none, 0.5), moe::config_error);
}
