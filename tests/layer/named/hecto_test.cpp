#include "moe/layer/named/hecto.hpp"

#include <cmath>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/layer_laws.hpp"

using moe::Index;

TEST_CASE("Hecto: laws", "[layer]") {
  const auto layer = [](Index hidden) {
    return moe::hecto<double>(
        {.width = 5, .recurrent = 2, .feed_forward = 1, .hidden = hidden, .entropy = 0.1});
  };
  test::check_layer(
      "Hecto", [&] { return layer(7); }, [&] { return layer(6); });
}

TEST_CASE("Hecto: a GRU's step or a feed-forward layer, by the better probability, against plain loops",
          "[layer][smoke]") {
  auto layer = moe::hecto<double>({.width = 4, .hidden = 3});
  std::mt19937_64 random(3);
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::map<std::string, moe::ParameterView<double>> of;
  layer.visit_parameters([&](const moe::Parameter<double>& p) {
    for (Index o = 0; o < p.value.rows; ++o)
      for (Index i = 0; i < p.value.cols; ++i) p.value(o, i) = uniform(random);
    of[p.name] = p.value;
  });
  std::vector<double> x(40 * 4), y(x.size());
  for (double& v : x) v = 4 * uniform(random);
  moe::Workspace workspace;
  moe::LayerOutput<double> out(moe::MatrixView<double>(y.data(), 40, 4));
  moe::LayerInput<double> in(moe::ConstMatrixView<double>(x.data(), 40, 4));
  in.options.temperature = 1.5;
  layer.forward(in, out, workspace);
  const auto map = [&](const std::string& name, const std::vector<double>& row) {
    std::vector<double> z;
    for (Index o = 0; o < of.at(name + ".weight").rows; ++o) {
      z.push_back(of.at(name + ".bias")(o, 0));
      for (std::size_t i = 0; i < row.size(); ++i)
        z.back() += of.at(name + ".weight")(o, static_cast<Index>(i)) * row[i];
    }
    return z;
  };
  const auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
  Index recurrent = 0;
  double worst = 0;
  for (std::size_t t = 0; t < 40; ++t) {
    const std::vector<double> row(x.begin() + static_cast<std::ptrdiff_t>(4 * t),
                                  x.begin() + static_cast<std::ptrdiff_t>(4 * t + 4));
    const auto logit = map("gate", row);
    const bool first = logit[0] > logit[1];
    const double p = sigmoid((first ? 1 : -1) * (logit[0] - logit[1]) / 1.5);
    std::vector<double> z;
    if (first) {
      ++recurrent;
      const auto r = map("experts.0.reset", row), u = map("experts.0.update", row),
                 n = map("experts.0.candidate", row);
      for (std::size_t j = 0; j < 4; ++j) {
        const double b = of.at("experts.0.candidate.hidden_bias")(static_cast<Index>(j), 0);
        z.push_back((1 - sigmoid(u[j])) * std::tanh(n[j] + sigmoid(r[j]) * b));
      }
    } else {
      auto h = map("experts.1.fc1", row);
      for (double& v : h) v = std::max(v, 0.0);
      z = map("experts.1.fc2", h);
    }
    for (std::size_t j = 0; j < 4; ++j) worst = std::max(worst, std::abs(y[4 * t + j] - p * z[j]));
  }
  CHECK(worst <= 1e-13);  // numbers below 100, a few dozen roundings
  CHECK(recurrent > 0);
  CHECK(recurrent < 40);
}

TEST_CASE("options of Hecto are checked", "[layer]") {
  CHECK_THROWS_AS(moe::hecto<double>({.width = 4, .recurrent = 0, .hidden = 3}), moe::config_error);
  CHECK_THROWS_AS(moe::hecto<double>({.width = 4}), moe::config_error);
  CHECK_THROWS_AS(moe::hecto<double>({.width = 4, .hidden = 3, .entropy = NAN}), moe::config_error);
}
