#include "moe/layer/named/mofme.hpp"

#include <cmath>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "moe/layer/frame/feed_forward.hpp"
#include "support/catch.hpp"
#include "support/layer_laws.hpp"

using moe::Index;

namespace {

constexpr Index kWidth = 5, kHidden = 7;

auto layer_of(moe::MofmeOptions options, Index hidden = kHidden) {
  options.width = kWidth, options.experts = 4, options.hidden = hidden;
  return moe::mofme<double>(options);
}

using Vector = std::vector<double>;
using Named = std::map<std::string, moe::ParameterView<double>>;

double gelu(double x) {
  return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
}
Vector map(const Named& of, const std::string& name, const Vector& x) {
  const auto &w = of.at(name + ".weight"), &b = of.at(name + ".bias");
  Vector y;
  for (Index o = 0; o < w.rows; ++o) {
    y.push_back(b(o, 0));
    for (std::size_t i = 0; i < x.size(); ++i) y.back() += w(o, static_cast<Index>(i)) * x[i];
  }
  return y;
}

struct Call {
  Vector x = Vector(6 * kWidth), y = x;
  moe::Workspace workspace;

  template <class L>
  const Vector& run(L& layer) {
    std::mt19937_64 random(5);
    std::uniform_real_distribution<double> uniform(-1, 1);
    for (double& v : x) v = uniform(random);
    moe::LayerOutput<double> out(moe::MatrixView<double>(y.data(), 6, kWidth));
    layer.forward(moe::LayerInput<double>(moe::ConstMatrixView<double>(x.data(), 6, kWidth)), out, workspace);
    return y;
  }
};

template <class L>
Named randomised(L& layer) {
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> uniform(-1, 1);
  Named all;
  layer.visit_parameters([&](const moe::Parameter<double>& p) {
    for (Index o = 0; o < p.value.rows; ++o)
      for (Index i = 0; i < p.value.cols; ++i) p.value(o, i) = uniform(random);
    all[p.name] = p.value;
  });
  return all;
}

}  // namespace

TEST_CASE("Mofme: laws", "[layer]") {
  for (const bool base : {true, false}) {
    test::check_layer(
        "Mofme", [&] { return layer_of({.base = base, .passes = 3, .load_balance = 0.2}); },
        [&] { return layer_of({.base = base, .passes = 3, .load_balance = 0.2}, 6); });
  }
}

TEST_CASE("Mofme: a shared block, modulated by the experts, and a shared layer, against plain loops",
          "[layer][smoke]") {
  for (const bool base : {true, false}) {
    auto layer = layer_of({.base = base});
    const Named of = randomised(layer);
    Call call;
    const Vector& y = call.run(layer);
    double worst = 0;
    for (std::size_t t = 0; t < 6; ++t) {
      const Vector x(call.x.begin() + static_cast<std::ptrdiff_t>(t * kWidth),
                     call.x.begin() + static_cast<std::ptrdiff_t>((t + 1) * kWidth));
      Vector logit = map(of, "gate", x);
      for (std::size_t e = 0; e < 4; ++e) {
        double variance = 0;
        for (std::size_t j = 0; j < x.size(); ++j) {
          const double wx = of.at("gate.weight")(static_cast<Index>(e), static_cast<Index>(j)) * x[j];
          variance += 0.1 / 0.9 * wx * wx;
        }
        logit[e] /= std::sqrt(variance + 1e-6);
      }
      Vector h = x;
      if (base) {
        const Vector g = map(of, "base.gate", x), u = map(of, "base.up", x);
        for (std::size_t j = 0; j < h.size(); ++j) h[j] = gelu(g[j]) * u[j];
      }
      std::size_t first = 0, second = 4;
      for (std::size_t e = 1; e < 4; ++e) first = logit[e] > logit[first] ? e : first;
      for (std::size_t e = 0; e < 4; ++e) {
        if (e != first && (second == 4 || logit[e] > logit[second])) second = e;
      }
      const double share = 1 / (1 + std::exp(logit[second] - logit[first]));
      Vector sum(h.size());
      for (const auto& [e, w] : {std::pair{first, share}, std::pair{second, 1 - share}}) {
        const std::string expert = "experts." + std::to_string(e) + ".";
        const Vector gamma = map(of, expert + "gamma", h), beta = map(of, expert + "beta", h);
        for (std::size_t j = 0; j < h.size(); ++j) sum[j] += w * (gamma[j] * h[j] + beta[j]);
      }
      Vector hidden = map(of, "adapter.fc1", sum);
      for (double& v : hidden) v = gelu(v);
      const Vector want = map(of, "adapter.fc2", hidden);
      for (std::size_t j = 0; j < want.size(); ++j) {
        worst = std::max(worst, std::abs(y[t * static_cast<std::size_t>(kWidth) + j] - want[j]));
      }
    }
    CHECK(worst <= 1e-12);  // numbers below 100, a few hundred roundings
  }
}

TEST_CASE("Mofme with gamma 1 and beta 0 is its shared layers", "[layer]") {
  auto layer = layer_of({.base = false});
  const Named of = randomised(layer);
  layer.experts().set_identity();
  Call call;
  const Vector& y = call.run(layer);
  for (std::size_t t = 0; t < 6; ++t) {
    Vector hidden = map(of, "adapter.fc1",
                        Vector(call.x.begin() + static_cast<std::ptrdiff_t>(t * kWidth),
                               call.x.begin() + static_cast<std::ptrdiff_t>((t + 1) * kWidth)));
    for (double& v : hidden) v = gelu(v);
    const Vector want = map(of, "adapter.fc2", hidden);
    for (std::size_t j = 0; j < want.size(); ++j)
      CHECK(std::abs(y[t * static_cast<std::size_t>(kWidth) + j] - want[j]) <= 1e-13);
  }
}

TEST_CASE("options of Mofme are checked", "[layer]") {
  CHECK_THROWS_AS(layer_of({.k = 5}), moe::config_error);
  CHECK_THROWS_AS(layer_of({.dropout = 1}), moe::config_error);
  CHECK_THROWS_AS(layer_of({}, 0), moe::config_error);
  CHECK_THROWS_AS(moe::FeedForwardFrame<double>({.width = 0, .hidden = 3}), moe::config_error);
}
