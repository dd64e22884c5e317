#include "moe/depth/informed_routing.hpp"

#include <cmath>

#include "support/catch.hpp"
#include "support/depth_call.hpp"
#include "support/layer_laws.hpp"
#include "support/past_block.hpp"

namespace {

using moe::Index;
using test::PastBlock;
using Rows = std::vector<double>;
using Layer = moe::InformedRouting<PastBlock>;
using Forecast = moe::Forecaster<double>;

Layer made(double noise = 0) {
  Layer layer = moe::informed_routing({.width = 3, .hidden = 2, .rank = 2, .noise = noise}, PastBlock(3));
  test::draw_all_parameters(layer, 6, 1.5);
  return layer;
}

/// f(x) = (1, 2, 3) * x_0, of which a forecaster of rank 1 knows all.
class RankOne {
 public:
  using Real = double;
  static constexpr moe::Coupling coupling(bool) noexcept { return moe::Coupling::row_independent; }
  Index width() const noexcept { return 3; }
  template <class X>
  void forward(const moe::BlockCall& call, const moe::ConstMatrixView<double>& x,
               const moe::MatrixView<double>& y, moe::impl::Nothing*, moe::Arena&, X&) const {
    for (Index i = 0; i < call.count; ++i) {
      for (Index j = 0; j < 3; ++j) y(i, j) = static_cast<double>(j + 1) * x(i, 0);
    }
  }
  template <class X>
  void backward(const moe::BlockCall& call, const moe::impl::Nothing&, const moe::ConstMatrixView<double>&,
                const moe::ConstMatrixView<double>& dy, const moe::MatrixView<double>& dx,
                moe::impl::Nothing*, moe::Arena&, X&) const {
    for (Index i = 0; i < call.count; ++i) {
      dx(i, 0) = dy(i, 0) + 2 * dy(i, 1) + 3 * dy(i, 2);
      dx(i, 1) = dx(i, 2) = 0;
    }
  }
};

}  // namespace

TEST_CASE("informed routing keeps the laws of layers", "[depth]") {
  // Straight through the gate: the gradients of blocks and router are below.
  test::check_layer("InformedRouting",
                    [] { return moe::informed_routing({.width = 3, .hidden = 2, .rank = 2}, PastBlock(3)); },
                    {.gradients = false});
}

TEST_CASE("a row executes or takes the forecast, in plain loops; blocks train by differences", "[depth]") {
  Layer layer = made(3);
  test::DepthCall call(7, 3, {0, 3, 7});
  const auto tape = call.train(layer);
  auto gradients = call.backward(layer, tape, 0);
  Index executed = 0;
  for (Index t = 0; t < 7; ++t) {
    REQUIRE(tape.routes().count(t) == 1);
    CHECK(tape.routes().weight[t] == 1);
    executed += tape.routes().expert[t] == 0 ? 1 : 0;
  }
  CHECK((executed > 0 && executed < 7));
  Rows in, out;
  layer.visit_parameters([&](const moe::Parameter<double>& p) {
    Rows* const of = std::string(p.name) == "block1.in.weight"    ? &in
                     : std::string(p.name) == "block1.out.weight" ? &out
                                                                  : nullptr;
    for (Index i = 0; of != nullptr && i < 6; ++i) of->push_back(p.value(i / p.value.cols, i % p.value.cols));
  });
  for (Index t = 0; t < 7; ++t) {
    if (tape.routes().expert[t] == 0) continue;
    const Rows x = call.row(call.x, t), y = call.row(call.y, t);
    for (std::size_t o = 0; o < 3; ++o) {
      double sum = x[o];
      for (std::size_t h = 0; h < 2; ++h) {
        for (std::size_t i = 0; i < 3; ++i) sum += out[o * 2 + h] * in[h * 3 + i] * x[i];
      }
      CHECK(std::abs(y[o] - sum) < 1e-14);
    }
  }
  // Of the forecaster, which has no gate in its way, by differences.
  layer.visit_parameters(gradients, [&](const moe::Parameter<double>& p) {
    if (std::string(p.name).rfind("block", 0) != 0) return;
    for (Index i = 0; i < p.value.size(); ++i) {
      double& v = p.value(i / p.value.cols, i % p.value.cols);
      const double old = v, h = 1e-5;
      const auto at = [&](double value) {
        v = value;
        call.draws = moe::DrawCounter(5);  // the same choices
        call.train(layer);
        v = old;
        double sum = 0;
        for (std::size_t k = 0; k < call.y.size(); ++k) sum += call.dy[k] * call.y[k];
        return sum;
      };
      CHECK(std::abs((at(old + h) - at(old - h)) / (2 * h) - p.gradient(i / p.value.cols, i % p.value.cols)) <
            1e-8);
    }
  });
}

TEST_CASE("a forecaster is fitted by its squared error before routing; a perfect one changes nothing",
          "[depth]") {
  test::DepthCall call(12, 3, {0, 5, 12});
  const RankOne block;
  Forecast forecaster({.width = 3, .hidden = 1});
  forecaster.initialise(9, true);
  moe::ForecastFit<RankOne> fit;
  double error = 0, first = 0;
  for (int i = 0; i < 2000; ++i) {
    auto gradients = forecaster.make_gradients();
    error = fit.step(block, forecaster, call.view(call.x), call.in.segments, &gradients);
    if (i == 0) first = error;
    auto descend = [](const char*, double* values, double* g, Index n) {
      for (Index k = 0; k < n; ++k) values[k] -= 0.1 * g[k];
    };
    forecaster.visit_storage(&gradients, descend);
  }
  CHECK(first > 0.1);
  CHECK(error < 1e-20);
  // Whoever executes, y = x + f(x).
  auto layer = moe::informed_routing({.width = 3, .hidden = 2, .rank = 1, .noise = 0}, block);
  test::draw_all_parameters(layer, 8, 2);
  layer.block<1>() = forecaster;
  call.forward(layer);
  for (Index t = 0; t < 12; ++t) {
    for (std::size_t j = 0; j < 3; ++j) {
      const Rows x = call.row(call.x, t), y = call.row(call.y, t);
      CHECK(std::abs(y[j] - x[j] - static_cast<double>(j + 1) * x[0]) < 1e-9);
    }
  }
}

TEST_CASE("the fit's gradient by differences, over a block that looks back in its segments",
          "[depth][smoke]") {
  test::DepthCall call(6, 3, {0, 2, 6});
  const PastBlock block(3);
  Forecast forecaster({.width = 3, .hidden = 2, .bias = true});
  forecaster.initialise(3, true);
  moe::ForecastFit<PastBlock> fit;
  auto gradients = forecaster.make_gradients();
  const double value = fit.step(block, forecaster, call.view(call.x), call.in.segments, &gradients);
  CHECK(value == fit.step(block, forecaster, call.view(call.x), call.in.segments, nullptr));
  auto compare = [&](const moe::Parameter<double>& p) {
    for (Index i = 0; i < p.value.size(); ++i) {
      double& v = p.value(i / p.value.cols, i % p.value.cols);
      const double old = v, h = 1e-5;
      v = old + h;
      const double up = fit.step(block, forecaster, call.view(call.x), call.in.segments, nullptr);
      v = old - h;
      const double down = fit.step(block, forecaster, call.view(call.x), call.in.segments, nullptr);
      v = old;
      CHECK(std::abs((up - down) / (2 * h) - p.gradient(i / p.value.cols, i % p.value.cols)) < 1e-9);
    }
  };
  forecaster.visit_parameters(&gradients, compare);
  CHECK_THROWS_AS(fit.step(block, Forecast({.width = 4, .hidden = 1}), call.view(call.x), {}, nullptr),
                  moe::shape_error);
  CHECK_THROWS_AS(fit.step(block, forecaster, call.view(call.x), moe::Segments::uniform(4), nullptr),
                  moe::shape_error);
  CHECK_THROWS_AS(moe::informed_routing({.width = 3, .hidden = 2}, PastBlock(3)), moe::config_error);
  CHECK_THROWS_AS(moe::informed_routing({.width = 3, .hidden = 2, .rank = 1, .target = 2}, PastBlock(3)),
                  moe::config_error);
  CHECK_THROWS_AS(moe::informed_routing({.width = 3, .hidden = 2, .rank = 1, .noise = -1}, PastBlock(3)),
                  moe::config_error);
}
