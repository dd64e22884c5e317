#include "moe/layer/named/mole_latent.hpp"

#include <vector>

#include "moe/layer/frame/latent.hpp"
#include "support/catch.hpp"
#include "support/layer_laws.hpp"

using moe::Index;

namespace {

auto layer_of(Index latent) {
  return moe::mole_latent<double>(
      {.width = 6, .experts = 4, .latent = latent, .hidden = 5, .k = 2, .bias = true});
}

}  // namespace

TEST_CASE("MoleLatent: laws", "[layer]") {
  test::check_layer(
      "MoleLatent", [] { return layer_of(3); }, [] { return layer_of(2); });
}

TEST_CASE("latent experts whose down projections share a map are a latent frame", "[layer]") {
  // Wd_e = C V_e: the bank with Wd_e, and the frame of A and C around experts of r columns with V_e.
  auto layer = layer_of(3);
  layer.router().scorer().initialise(2);
  layer.experts().initialise(1);
  moe::LatentFrame<double> frame(6, 3);
  frame.initialise(3);
  moe::Glu<moe::Silu, double> inner({.experts = 4, .width = 3, .hidden = 5, .bias = true});
  inner.initialise(4);
  std::vector<moe::ParameterView<double>> of_inner, maps;
  inner.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) { of_inner.push_back(p.value); });
  frame.visit_parameters(nullptr, [&](const moe::Parameter<double>& p) { maps.push_back(p.value); });
  std::size_t at = 0;
  layer.experts().inner().visit_parameters(nullptr, [&](const moe::Parameter<double>& p) {
    const auto& from = of_inner[at];
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) {
        if (at % 6 < 4) {
          p.value(o, i) = from(o, i);
          continue;
        }
        double sum = 0;
        for (Index k = 0; k < 3; ++k) sum += maps[1](o, k) * from(k, i);
        p.value(o, i) = sum;
      }
    }
    ++at;
  });
  auto show = [&](const moe::Parameter<double>& p) {
    for (Index o = 0; o < 3; ++o)
      for (Index i = 0; i < 6; ++i) p.value(o, i) = maps[0](o, i);
  };
  layer.experts().map().visit_parameters("map", nullptr, show);
  moe::MoeLayer framed(layer.router(), inner, moe::Dropless{}, moe::NoShared{}, frame);

  std::vector<double> x(5 * 6), y(x.size()), z(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<double>(3 * i));
  const moe::ConstMatrixView<double> rows(x.data(), 5, 6);
  moe::Workspace workspace;
  moe::LayerOutput<double> out(moe::MatrixView<double>(y.data(), 5, 6)),
      other(moe::MatrixView<double>(z.data(), 5, 6));
  layer.forward(moe::LayerInput<double>(rows), out, workspace);
  framed.forward(moe::LayerInput<double>(rows), other, workspace);
  for (std::size_t i = 0; i < y.size(); ++i) CHECK(std::abs(y[i] - z[i]) <= 1e-14);  // numbers below 1
}

TEST_CASE("options of MoleLatent are checked", "[layer]") {
  CHECK_THROWS_AS(layer_of(0), moe::config_error);
  CHECK_THROWS_AS(moe::mole_latent<double>({.width = 6, .experts = 2, .latent = 2, .hidden = 3, .k = 3}),
                  moe::config_error);
}
