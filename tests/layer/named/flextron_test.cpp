#include "moe/layer/named/flextron.hpp"

#include <vector>

#include "support/catch.hpp"
#include "support/layer_laws.hpp"
#include "support/same_bits.hpp"

using moe::Index;

namespace {

constexpr Index kWidths[] = {2, 5, 11};

auto layer_of(Index width, std::span<const Index> widths) {
  return moe::flextron<double>({.width = width, .widths = widths, .bias = true, .router_hidden = 3});
}

}  // namespace

TEST_CASE("Flextron: laws", "[layer]") {
  // A choice of weight 1 has no derivative by the router; where nobody changes his mind differences are 0.
  test::check_layer(
      "Flextron", [] { return layer_of(6, kWidths); }, [] { return layer_of(7, kWidths); });
}

TEST_CASE("Flextron of one width is the dense layer, and a surrogate's gradient trains its router",
          "[layer]") {
  const Index one[] = {11};
  auto layer = layer_of(6, one);
  layer.experts().initialise(3);
  layer.router().scorer().initialise(4);
  std::vector<double> x(5 * 6), y(x.size()), dx(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<double>(i));
  const moe::ConstMatrixView<double> rows(x.data(), 5, 6);
  moe::Workspace workspace;
  moe::LayerOutput<double> out(moe::MatrixView<double>(y.data(), 5, 6));
  moe::LayerInput<double> in(rows);
  moe::DrawCounter draws(1);
  in.draws = &draws;
  auto tape = layer.make_tape();
  layer.forward_train(in, out, tape, workspace);

  const double* row[5];
  double z[5 * 6];
  const double* result[5];
  const std::int32_t token[] = {0, 1, 2, 3, 4};
  const Index offsets[] = {0, 5};
  for (Index t = 0; t < 5; ++t) row[t] = rows.row(t), result[t] = z + 6 * t;
  moe::Glu<moe::Silu, double> dense({.experts = 1, .width = 6, .hidden = 11, .bias = true});
  dense.initialise(3);
  moe::Arena measure;
  dense.measure(measure, 5, 1);
  std::vector<std::byte> memory(static_cast<std::size_t>(measure.bytes()));
  moe::Arena arena(memory.data(), measure.bytes());
  moe::SerialExecutor serial;
  dense.forward(moe::RowBatch<double>{row, token, offsets, 1}, moe::RowSink<double>{z, 6, result}, arena,
                serial);
  CHECK(test::same_bits(y, std::vector<double>(z, z + 30)));

  auto gradients = layer.make_gradients();
  const std::vector<double> dlogit(5, 0.5);
  decltype(layer)::LayerGradients back(moe::ConstMatrixView<double>(y.data(), 5, 6),
                                       moe::MatrixView<double>(dx.data(), 5, 6), gradients);
  layer.backward(tape, back, workspace);
  const auto bias_gradient = [&] {
    double g = 0;
    layer.visit_parameters(gradients, [&](const auto& p) {
      if (std::string(p.name) == "gate.2.bias") g = p.gradient(0, 0);
    });
    return g;
  };
  CHECK(bias_gradient() == 0);
  back.dlogit = moe::ConstMatrixView<double>(dlogit.data(), 5, 1);
  layer.backward(tape, back, workspace);
  CHECK(bias_gradient() == 2.5);
}
