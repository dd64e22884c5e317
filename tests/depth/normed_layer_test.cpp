#include "moe/depth/normed_layer.hpp"

#include <cmath>
#include <string>
#include <vector>

#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/expert_choice.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"
#include "support/layer_laws.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::Index;
using Glu = moe::Glu<moe::Silu, double>;
using Inner = moe::MoeLayer<moe::SoftmaxTopK<double>, Glu>;

Inner inner(Index width = 5) {
  return {moe::softmax_top_k<double>({.width = width, .experts = 3, .k = 2}),
          Glu({.experts = 3, .width = width, .hidden = 4})};
}

}  // namespace

TEST_CASE("NormedLayer: laws of layers", "[normed]") {
  test::check_layer(
      "NormedLayer", [] { return moe::NormedLayer(inner()); }, [] { return moe::NormedLayer(inner(6)); });
  test::check_layer(
      "NormedLayer of a coupled layer",
      [] {
        return moe::NormedLayer(
            moe::MoeLayer(moe::expert_choice<double>({.width = 4, .experts = 3, .capacity_factor = 1.5}),
                          Glu({.experts = 3, .width = 4, .hidden = 3})),
            0.1);
      },
      {.seed = 2});
}

TEST_CASE("NormedLayer: the layer of rows over their root mean square; bad arguments", "[normed]") {
  moe::NormedLayer layer(inner(), 0.25);
  layer.layer().router().scorer().initialise(1);
  layer.layer().experts().initialise(2);
  std::vector<double> x{1, -2, 3, 0.5, 4}, normed = x, y(5), want(5);
  double squares = 0;
  for (const double v : x) squares += v * v;
  for (double& v : normed) v /= std::sqrt(squares / 5 + 0.25);
  moe::Workspace workspace;
  moe::LayerOutput<double> out(moe::MatrixView<double>(y.data(), 1, 5)),
      to(moe::MatrixView<double>(want.data(), 1, 5));
  layer.forward(moe::ConstMatrixView<double>(x.data(), 1, 5), out, workspace);
  layer.layer().forward(moe::ConstMatrixView<double>(normed.data(), 1, 5), to, workspace);
  for (std::size_t j = 0; j < 5; ++j) CHECK(std::abs(y[j] - want[j]) <= 1e-14);

  for (const double eps : {-1.0, std::nan("")})
    CHECK_THROWS_AS(moe::NormedLayer(inner(), eps), moe::config_error);
  moe::LayerInput<double> in(moe::ConstMatrixView<double>(x.data(), 1, 5));
  in.router_x = moe::ConstMatrixView<double>(normed.data(), 1, 5);
  CHECK_THROWS_AS(layer.forward(in, out, workspace), moe::config_error);
  moe::NormedLayer taken = std::move(layer);
  CHECK_THROWS_AS(layer.forward(moe::ConstMatrixView<double>(x.data(), 1, 5), out, workspace),
                  moe::state_error);

  // A refused call leaves the tape as it was.
  std::vector<double> dx(5), again(5);
  const std::vector<double> dy{1, 2, 3, 4, 5};
  auto tape = taken.make_tape();
  const auto back = [&](std::vector<double>& to_dx) {
    taken.backward(
        tape, {moe::ConstMatrixView<double>(dy.data(), 1, 5), moe::MatrixView<double>(to_dx.data(), 1, 5)},
        workspace);
  };
  taken.forward_train(moe::ConstMatrixView<double>(x.data(), 1, 5), out, tape, workspace);
  back(dx);
  x[2] = std::nan("");
  CHECK_THROWS_AS(taken.forward_train(moe::ConstMatrixView<double>(x.data(), 1, 5), out, tape, workspace),
                  moe::numeric_error);
  back(again);
  CHECK(test::same_bits(again, dx));
}
