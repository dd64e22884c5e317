#include "moe/depth/cartesian_moe.hpp"

#include <cmath>
#include <string>
#include <tuple>

#include "moe/expert/bank/mlp.hpp"
#include "moe/kernel/activation.hpp"
#include "support/catch.hpp"
#include "support/depth_calls.hpp"
#include "support/layer_laws.hpp"

namespace {

using moe::Index;
using Bank = moe::Mlp<moe::Silu, double>;

constexpr Index kWidth = 4;

moe::CartesianMoe<Bank> layer(Index first, Index second, Index k) {
  return moe::cartesian_moe({.first = {.width = kWidth, .experts = first, .k = k},
                             .second = {.width = kWidth, .experts = second, .k = k}},
                            Bank({.experts = first, .width = kWidth, .hidden = 3}),
                            Bank({.experts = second, .width = kWidth, .hidden = 2}));
}
moe::NormedCartesianMoe<Bank> normed(Index first, Index second) {
  return moe::normed_cartesian_moe({.first = {.width = kWidth, .experts = first, .k = 2},
                                    .second = {.width = kWidth, .experts = second, .k = 2},
                                    .eps = 0.25},
                                   Bank({.experts = first, .width = kWidth, .hidden = 3}),
                                   Bank({.experts = second, .width = kWidth, .hidden = 2}));
}
template <class L>
test::Values forward(const L& cartesian, const test::Values& x) {
  test::Values y(x.size());
  moe::LayerOutput<double> out(test::rows_of(y, kWidth));
  moe::Workspace workspace;
  cartesian.forward(test::rows_of(x, kWidth), out, workspace);
  return y;
}

}  // namespace

TEST_CASE("CartesianMoE keeps the laws of layers", "[depth]") {
  test::check_layer(
      "cartesian", [] { return layer(3, 4, 2); }, [] { return layer(3, 5, 2); });
  test::check_layer(
      "normed cartesian", [] { return normed(3, 4); }, [] { return normed(3, 5); });
}

TEST_CASE(
    "CartesianMoE with the paper's norm: the second sub-layer reads normed rows, and adds to the others",
    "[depth]") {
  auto cartesian = normed(3, 4);
  test::draw_parameters(cartesian, 7);
  const test::Values x = test::normal_rows(8, 6, kWidth);
  auto& [first, second] = cartesian.layers();
  test::Values h = forward(first, x);
  for (std::size_t i = 0; i < h.size(); ++i) h[i] += x[i];
  test::Values scale, read = h;
  second.visit_parameters([&](const moe::Parameter<double>& p) {
    for (Index i = 0; std::string(p.name) == "norm.scale" && i < kWidth; ++i) scale.push_back(p.value(i, 0));
  });
  for (std::size_t t = 0; t < 6; ++t) {
    double squares = 0;
    for (std::size_t i = 0; i < kWidth; ++i) squares += h[t * kWidth + i] * h[t * kWidth + i] / kWidth;
    for (std::size_t i = 0; i < kWidth; ++i) read[t * kWidth + i] *= scale[i] / std::sqrt(squares + 0.25);
  }
  const test::Values added = forward(second.layer(), read), y = forward(cartesian, x);
  for (std::size_t i = 0; i < y.size(); ++i) CHECK(std::abs(y[i] - h[i] - added[i]) <= 1e-13);
}

TEST_CASE("CartesianMoE: a token's experts are pairs, B_j after A_i; with one of each, two experts",
          "[depth]") {
  for (const Index experts : {1, 3}) {
    auto cartesian = layer(experts, experts == 1 ? 1 : 4, 1);
    test::draw_parameters(cartesian, 7);
    const test::Values x = test::normal_rows(8, 6, kWidth);
    const test::Values y = forward(cartesian, x);
    const test::PlainMixture a(cartesian, "step0.", "step0.", 1), b(cartesian, "step1.", "step1.", 1);
    const auto best = [](const test::PlainMixture::Row& p) {
      return std::max_element(p.begin(), p.end()) - p.begin();
    };
    for (Index t = 0; t < 6; ++t) {
      auto h = test::plain_row(x, t, kWidth);
      const auto p = a.shares(h);
      const Index i = best(p);
      const auto z = a.expert(i, h);
      for (std::size_t d = 0; d < h.size(); ++d) h[d] += p[static_cast<std::size_t>(i)] * z[d];
      const auto q = b.shares(h);
      const Index j = best(q);
      const auto u = b.expert(j, h);
      for (std::size_t d = 0; d < h.size(); ++d) h[d] += q[static_cast<std::size_t>(j)] * u[d];
      if (experts == 1) CHECK((p[0] == 1 && q[0] == 1));
      const test::Values actual(y.begin() + t * kWidth, y.begin() + (t + 1) * kWidth);
      CHECK(test::close_rows(actual, h, 1e-13));  // sums of 3 and 4 terms, twice
    }
  }
}

TEST_CASE("CartesianMoE has a balance loss of each sub-layer, and refuses banks of different widths",
          "[depth]") {
  auto cartesian = layer(3, 4, 2);
  test::draw_parameters(cartesian, 7);
  const test::Values x = test::normal_rows(8, 6, kWidth);
  test::Values y(x.size());
  moe::LayerOutput<double> out(test::rows_of(y, kWidth));
  moe::RouteStats stats;
  out.stats = &stats;
  auto tape = cartesian.make_tape();
  moe::Workspace workspace;
  cartesian.forward_train(test::rows_of(x, kWidth), out, tape, workspace);
  double losses = 0;
  for (const auto* routes : {&std::get<0>(tape.layers()).routes(), &std::get<1>(tape.layers()).routes()}) {
    losses += routes->losses.total();
  }
  CHECK(out.losses.total() == losses);
  CHECK(out.losses.end() - out.losses.begin() == 1);  // one name
  CHECK(stats.experts() == 3);                        // those of the first sub-layer
  CHECK(stats.pairs() == 12);
  CHECK_THROWS_AS(
      moe::cartesian_moe({.first = {.width = 4, .experts = 2}, .second = {.width = 5, .experts = 2}},
                         Bank({.experts = 2, .width = 4, .hidden = 2}),
                         Bank({.experts = 2, .width = 5, .hidden = 2})),
      moe::config_error);
}
