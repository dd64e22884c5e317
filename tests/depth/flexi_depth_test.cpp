#include "moe/depth/flexi_depth.hpp"

#include <array>
#include <cmath>

#include "support/catch.hpp"
#include "support/depth_call.hpp"
#include "support/layer_laws.hpp"
#include "support/past_block.hpp"

namespace {

using moe::Index;
using test::PastBlock;
using Rows = std::vector<double>;
using Layer = moe::FlexiDepth<PastBlock>;

Layer made(std::uint64_t seed = 3) {
  Layer layer = moe::flexi_depth({.width = 3, .bottleneck = 2, .adapter_hidden = 4}, PastBlock(3));
  test::draw_all_parameters(layer, seed, 1.5);
  return layer;
}

/// A parameter's values by its name.
Rows values(Layer& layer, const char* name) {
  Rows v;
  layer.visit_parameters([&](const moe::Parameter<double>& p) {
    for (Index i = 0; std::string(p.name) == name && i < p.value.size(); ++i)
      v.push_back(p.value(i / p.value.cols, i % p.value.cols));
  });
  REQUIRE(!v.empty());
  return v;
}

/// W x, W [rows, columns].
Rows times(const Rows& w, const Rows& x) {
  Rows y(w.size() / x.size(), 0);
  for (std::size_t o = 0; o < y.size(); ++o) {
    for (std::size_t i = 0; i < x.size(); ++i) y[o] += w[o * x.size() + i] * x[i];
  }
  return y;
}

Rows normed(const Rows& x, const Rows& scale) {
  double squares = 0;
  for (const double v : x) squares += v * v;
  Rows y;
  for (std::size_t j = 0; j < x.size(); ++j)
    y.push_back(x[j] * scale[j] / std::sqrt(squares / static_cast<double>(x.size()) + 1e-6));
  return y;
}

}  // namespace

TEST_CASE("FlexiDepth keeps the laws of layers", "[depth]") {
  test::check_layer("FlexiDepth", [] {
    return moe::flexi_depth({.width = 3, .bottleneck = 2, .adapter_hidden = 4}, PastBlock(3));
  });
}

TEST_CASE("rows execute with weight g or pass the adapter with weight 1 - g, in a plain loop", "[depth]") {
  Layer layer = made();
  test::DepthCall call(8, 3, {0, 3, 8});
  const auto tape = call.train(layer);
  const Rows first = values(layer, "router.gate.0.weight"), second = values(layer, "router.gate.2.weight"),
             scale = values(layer, "router.norm.scale"), in = values(layer, "block1.in.weight"),
             out = values(layer, "block1.out.weight"), own = values(layer, "block1.norm.scale");
  Index executed = 0;
  for (std::size_t s = 1; s < call.ends.size(); ++s) {
    Rows x, gates;
    std::vector<Index> position, row;
    for (Index t = call.ends[s - 1]; t < call.ends[s]; ++t) {
      const Rows of = call.row(call.x, t);
      Rows h = times(first, normed(of, scale));
      for (double& v : h) v = std::tanh(v);
      const double g = 1 / (1 + std::exp(-times(second, h)[0]));
      if (g >= 0.5) {
        x.insert(x.end(), of.begin(), of.end());
        gates.push_back(g);
        position.push_back(t - call.ends[s - 1]);
        ++executed;
        continue;
      }
      Rows u = times(in, normed(of, own));
      for (double& v : u) v /= 1 + std::exp(-v);
      const Rows a = times(out, u), y = call.row(call.y, t);
      for (std::size_t j = 0; j < 3; ++j) CHECK(std::abs(y[j] - (of[j] + (1 - g) * a[j])) < 1e-14);
    }
    const Rows f = layer.block<0>()(x, position);
    for (std::size_t i = 0; i < position.size(); ++i) {
      const Rows y = call.row(call.y, call.ends[s - 1] + position[i]);
      for (std::size_t j = 0; j < 3; ++j)
        CHECK(std::abs(y[j] - (x[3 * i + j] + gates[i] * f[3 * i + j])) < 1e-14);
    }
  }
  CHECK((executed > 0 && executed < 8));
}

TEST_CASE("g = 1 is the layer, g = 0 the adapter", "[depth]") {
  test::DepthCall call(4, 3, {0, 4});
  for (const double towards : {60.0, -60.0}) {
    Layer layer = made();
    layer.visit_parameters([&](const moe::Parameter<double>& p) {
      const std::string name = p.name;
      if (name == "router.norm.scale") p.value(0, 0) = p.value(1, 0) = p.value(2, 0) = 1;
      for (Index i = 0; name == "router.gate.0.weight" && i < 6; ++i) p.value(i / 3, i % 3) = i < 3 ? 0 : 0;
      if (name == "router.gate.0.weight") p.value(0, 0) = 100;
      for (Index i = 0; name == "router.gate.2.weight" && i < 2; ++i) p.value(0, i) = i == 0 ? towards : 0;
    });
    for (Index t = 0; t < 4; ++t) call.x[static_cast<std::size_t>(3 * t)] = 1 + static_cast<double>(t);
    call.forward(layer);
    const Rows f = layer.block<0>()(call.x, {0, 1, 2, 3});
    const Rows in = values(layer, "block1.in.weight"), out = values(layer, "block1.out.weight"),
               own = values(layer, "block1.norm.scale");
    for (Index t = 0; t < 4; ++t) {
      const Rows x = call.row(call.x, t), y = call.row(call.y, t);
      Rows u = times(in, normed(x, own));
      for (double& v : u) v /= 1 + std::exp(-v);
      const Rows a = times(out, u);
      for (std::size_t j = 0; j < 3; ++j) {
        const double want = towards > 0 ? f[static_cast<std::size_t>(3 * t) + j] : a[j];
        CHECK(std::abs(y[j] - x[j] - want) < 1e-14);
      }
    }
  }
}

TEST_CASE("the loss over three layers: the square of a row's sum, its gradient by differences through all",
          "[depth][smoke]") {
  std::array<Layer, 3> layers{made(3), made(4), made(5)};
  test::DepthCall call(5, 3, {0, 2, 5});
  const std::array<bool, 5> valid{true, true, false, true, true};
  call.in.valid = std::span<const bool>(valid);
  std::array<Rows, 4> h;
  std::array<Layer::Tape, 3> tapes;
  moe::LayerSkipLoss<double> loss(0.3);
  const auto run = [&] {
    loss.clear();
    moe::Workspace workspace;
    h[0] = call.x;
    for (std::size_t l = 0; l < 3; ++l) {
      h[l + 1].assign(15, 0);
      call.in.x = call.view(h[l]);
      moe::LayerOutput<double> out(moe::MatrixView<double>(h[l + 1].data(), 5, 3));
      layers[l].forward_train(call.in, out, tapes[l], workspace);
      loss.add(tapes[l].routes());
    }
    return loss.value();
  };
  const double value = run();
  double squares = 0;
  for (Index t = 0; t < 5; ++t) {
    double sum = 0;
    for (std::size_t l = 0; valid[static_cast<std::size_t>(t)] && l < 3; ++l) {
      const auto& routes = tapes[l].routes();
      const double w = routes.weight[routes.offsets[t]];
      sum += routes.expert[routes.offsets[t]] == 0 ? w : 1 - w;
    }
    squares += sum * sum;
    CHECK(std::abs(loss.dgate(t) - 2 * 0.3 * sum / 4) < 1e-15);  // of 4 rows; not 2 g of the layer
  }
  CHECK(std::abs(value - 0.3 * squares / 4) < 1e-15);

  // Backward through all layers from the loss alone.
  moe::Workspace workspace;
  Rows d(15, 0), dx(15);
  std::vector<Layer::Gradients> gradients;
  for (std::size_t l = 0; l < 3; ++l) gradients.push_back(layers[l].make_gradients());
  for (std::size_t l = 3; l-- > 0;) {
    Layer::LayerGradients back(call.view(d), moe::MatrixView<double>(dx.data(), 5, 3), gradients[l]);
    back.dlogit = loss.dlogit(static_cast<Index>(l));
    layers[l].backward(tapes[l], back, workspace);
    d = dx;
  }
  const double step = 1e-5;
  for (std::size_t i = 0; i < 15; ++i) {
    const double old = call.x[i];
    call.x[i] = old + step;
    const double up = run();
    call.x[i] = old - step;
    const double down = run();
    call.x[i] = old;
    CHECK(std::abs((up - down) / (2 * step) - d[i]) < 1e-8);
  }
  layers[0].visit_parameters(gradients[0], [&](const moe::Parameter<double>& p) {
    for (Index i = 0; i < p.value.size(); ++i) {
      double& v = p.value(i / p.value.cols, i % p.value.cols);
      const double old = v;
      v = old + step;
      const double up = run();
      v = old - step;
      const double down = run();
      v = old;
      CHECK(std::abs((up - down) / (2 * step) - p.gradient(i / p.value.cols, i % p.value.cols)) < 1e-8);
    }
  });
}

TEST_CASE("FlexiDepth and its loss refuse what they cannot obey", "[depth]") {
  const auto of = [](moe::FlexiDepthOptions options) { return moe::flexi_depth(options, PastBlock(3)); };
  CHECK_THROWS_AS(of({.width = 3, .bottleneck = 0, .adapter_hidden = 1}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .bottleneck = 1, .adapter_hidden = 0}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .bottleneck = 1, .adapter_hidden = 1, .threshold = 1}), moe::config_error);
  CHECK_THROWS_AS(moe::LayerSkipLoss<double>(std::nan("")), moe::config_error);
  const Layer layer = made();
  test::DepthCall call(4, 3, {0, 4}), other(3, 3, {0, 3});
  moe::LayerSkipLoss<double> loss;
  CHECK(loss.value() == 0);
  CHECK_THROWS_AS(loss.dlogit(0), moe::config_error);
  const auto tape = call.train(layer), second = other.train(layer);
  loss.add(tape.routes());
  CHECK_THROWS_AS(loss.add(second.routes()), moe::shape_error);
  CHECK_THROWS_AS(loss.dlogit(1), moe::config_error);
}
