#include "moe/depth/token_pruner.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "support/catch.hpp"
#include "support/depth_call.hpp"
#include "support/layer_laws.hpp"
#include "support/past_block.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::Index;
using test::PastBlock;
using Rows = std::vector<double>;

/// Factors and targets of the rows by their numbers.
struct Columns {
  Rows factors, target;

  explicit Columns(const std::vector<Index>& rows) {
    for (const Index t : rows) {
      for (int j = 0; j < 4; ++j) factors.push_back(std::sin(static_cast<double>(5 * t + 3 * j + 1)));
      target.push_back(t % 2 == 0 ? 0.9 : 0.2);
    }
  }
  void show(moe::LayerInput<double>& in) const {
    const auto n = static_cast<Index>(target.size());
    in.features = moe::ConstMatrixView<double>(factors.data(), n, 4);
    in.target = moe::ConstMatrixView<double>(target.data(), n, 1);
  }
};

}  // namespace

TEST_CASE("FTP keeps the laws of layers", "[depth]") {
  std::vector<std::unique_ptr<Columns>> kept;
  test::check_layer(
      "TokenPruner", [] { return moe::token_pruner({.width = 3, .hidden = 2}, PastBlock(3)); },
      {.gradients = false, .columns = [&](moe::LayerInput<double>& in, const std::vector<Index>& rows) {
         kept.push_back(std::make_unique<Columns>(rows));
         kept.back()->show(in);
       }});
}

TEST_CASE("as many rows stay as the schedule says, those that score highest; the others keep their bits",
          "[depth][smoke]") {
  std::vector<Index> rows(11);
  std::iota(rows.begin(), rows.end(), Index{0});
  const Columns columns(rows);
  for (const double keep : {0.2, 0.5, 1.0}) {
    test::DepthCall call(11, 3, {0, 4, 11});
    columns.show(call.in);
    auto layer = moe::token_pruner(
        {.width = 3, .hidden = 2, .keep = keep, .coefficient = 0.6, .sparsity = 0.4}, PastBlock(3));
    test::draw_all_parameters(layer, 3);
    const auto tape = call.train(layer);
    auto gradients = call.backward(layer, tape);
    std::array<Rows, 4> w;
    layer.visit_parameters([&](const moe::Parameter<double>& p) {
      const std::array<const char*, 4> names{"router.gate.0.weight", "router.gate.0.bias",
                                             "router.gate.2.weight", "router.gate.2.bias"};
      for (std::size_t k = 0; k < 4; ++k) {
        for (Index i = 0; std::string(p.name) == names[k] && i < p.value.size(); ++i)
          w[k].push_back(p.value(i / p.value.cols, i % p.value.cols));
      }
    });
    Rows score;
    double loss = 0, off = -keep;
    for (std::size_t t = 0; t < 11; ++t) {
      double l = w[3][0];
      for (std::size_t o = 0; o < 2; ++o) {
        double h = w[1][o];
        for (std::size_t j = 0; j < 4; ++j) h += w[0][4 * o + j] * columns.factors[4 * t + j];
        l += w[2][o] * std::tanh(h);
      }
      score.push_back(l);
      const double p = 1 / (1 + std::exp(-l)), m = columns.target[t];
      loss -= (m * std::log(p) + (1 - m) * std::log(1 - p)) / 11;
      off += p / 11;
    }
    CHECK(std::abs(call.out.losses.total() - 0.6 * loss - 0.4 * off * off) < 1e-14);
    double bias = 0;  // of the last layer: straight through rows that stayed, and the guide
    for (std::size_t s = 1; s < 3; ++s) {
      std::vector<Index> order(rows.begin() + call.ends[s - 1], rows.begin() + call.ends[s]);
      std::sort(order.begin(), order.end(), [&](Index a, Index b) {
        return score[static_cast<std::size_t>(a)] > score[static_cast<std::size_t>(b)];
      });
      const auto n = static_cast<double>(order.size());
      order.resize(std::max<std::size_t>(1, static_cast<std::size_t>(n * keep)));
      std::sort(order.begin(), order.end());
      Rows x;
      std::vector<Index> position;
      for (const Index t : order) {
        position.push_back(t - call.ends[s - 1]);
        x.insert(x.end(), call.x.begin() + 3 * t, call.x.begin() + 3 * t + 3);
      }
      const Rows f = layer.block()(x, position);
      for (std::size_t i = 0; i < order.size(); ++i) {
        const double p = 1 / (1 + std::exp(-score[static_cast<std::size_t>(order[i])]));
        for (std::size_t j = 0; j < 3; ++j) {
          const auto at = static_cast<std::size_t>(3 * order[i]) + j;
          CHECK(std::abs(call.y[at] - (call.x[at] + f[3 * i + j])) < 1e-15);
          bias += call.dy[at] * f[3 * i + j] * p * (1 - p);
        }
      }
      for (Index t = call.ends[s - 1]; t < call.ends[s]; ++t) {
        if (std::count(order.begin(), order.end(), t) == 0)
          CHECK(test::same_bits(call.row(call.y, t), call.row(call.x, t)));
      }
    }
    for (std::size_t t = 0; t < 11; ++t) {
      const double p = 1 / (1 + std::exp(-score[t]));
      bias += (0.6 * (p - columns.target[t]) + 0.8 * off * p * (1 - p)) / 11;
    }
    layer.visit_parameters(gradients, [&](const moe::Parameter<double>& p) {
      if (std::string(p.name) == "router.gate.2.bias") CHECK(std::abs(p.gradient(0, 0) - bias) < 1e-14);
    });
  }
}

TEST_CASE("the four factors of a row, by hand", "[depth]") {
  const std::array<double, 6> attention{1, 3, 3, 1, 0, 5};
  const std::array<Index, 4> ends{0, 4, 5, 6};
  std::array<double, 24> out{};
  moe::token_factors<double>(attention, moe::Segments(std::span<const Index>(ends)), 0.25,
                             moe::MatrixView<double>(out.data(), 6, 4));
  const double third = 1.0 / 3;
  const std::array<double, 24> want{0,         0.125, 2 * third, 0.25, third, 0.375, 0, 0.25,
                                    2 * third, 0.375, third,     0.25, 1,     0.125, 1, 0.25,
                                    0,         0,     0,         0.25, 0,     1,     0, 0.25};
  for (std::size_t i = 0; i < 24; ++i) CHECK(std::abs(out[i] - want[i]) < 1e-15);
  const std::array<double, 2> bad{1, -1};
  moe::MatrixView<double> two(out.data(), 2, 4);
  CHECK_THROWS_AS(moe::token_factors<double>(bad, {}, 0.5, two), moe::numeric_error);
  CHECK_THROWS_AS(moe::token_factors<double>(attention, {}, 0.5, two), moe::shape_error);
  const std::array<double, 2> good{1, 1};
  CHECK_THROWS_AS(moe::token_factors<double>(good, {}, 1.5, two), moe::config_error);
  CHECK_THROWS_AS(moe::token_factors<double>(good, {}, 0.5, moe::MatrixView<double>(out.data(), 2, 3)),
                  moe::shape_error);
}

TEST_CASE("FTP refuses what it cannot obey", "[depth]") {
  const auto of = [](moe::TokenPrunerOptions options) { return moe::token_pruner(options, PastBlock(3)); };
  CHECK_THROWS_AS(of({.width = 3, .hidden = 0}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 0}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .keep = 0}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .keep = 1.01}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .coefficient = INFINITY}), moe::config_error);
  CHECK_THROWS_AS(of({.width = 3, .sparsity = INFINITY}), moe::config_error);
  test::DepthCall call(4, 3, {0, 4});
  const auto layer = of({.width = 3});
  CHECK_THROWS_AS(call.forward(layer), moe::config_error);
  const Columns columns({0, 1, 2, 3});
  columns.show(call.in);
  call.in.features.cols = 3;
  CHECK_THROWS_AS(call.forward(layer), moe::shape_error);
  call.in.features.cols = 4;
  call.in.target = {};
  CHECK_THROWS_AS(call.train(layer), moe::config_error);
  call.forward(layer);
}
