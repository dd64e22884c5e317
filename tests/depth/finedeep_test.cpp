#include "moe/depth/finedeep.hpp"

#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "moe/expert/bank/carve.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/kind/every.hpp"
#include "support/catch.hpp"
#include "support/layer_laws.hpp"

namespace {

using moe::FinedeepOptions;
using moe::Index;
using Layer = moe::Finedeep<double>;
using Values = std::vector<double>;

constexpr FinedeepOptions kOptions{.width = 5, .hidden = 12, .layers = 2, .experts = 3};

Values normal(Index n, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> draw;
  Values v(static_cast<std::size_t>(n));
  for (double& a : v) a = draw(random);
  return v;
}

Layer drawn(const FinedeepOptions& options) {
  Layer layer = moe::finedeep<double>(options);
  std::mt19937_64 random(4);
  std::normal_distribution<double> draw;
  layer.visit_parameters([&](const moe::Parameter<double>& p) {
    for (Index i = 0; i < p.value.size(); ++i)
      p.value(i / p.value.cols, i % p.value.cols) = 0.7 * draw(random);
  });
  return layer;
}

Values parameter(const Layer& layer, const std::string& name) {
  Values found;
  layer.visit_parameters([&](const auto& p) {
    for (Index i = 0; name == p.name && i < p.value.size(); ++i)
      found.push_back(p.value(i / p.value.cols, i % p.value.cols));
  });
  REQUIRE(!found.empty());
  return found;
}

Values times(const Values& w, const Values& x) {
  Values y(w.size() / x.size());
  for (std::size_t o = 0; o < y.size(); ++o)
    y[o] = std::inner_product(x.begin(), x.end(), w.begin() + static_cast<Index>(o * x.size()), 0.0);
  return y;
}

Values run(const Layer& layer, const Values& x) {
  const Index tokens = static_cast<Index>(x.size()) / layer.width();
  Values y(x.size());
  moe::Workspace workspace;
  moe::LayerOutput<double> out(moe::MatrixView<double>(y.data(), tokens, layer.width()));
  layer.forward(moe::ConstMatrixView<double>(x.data(), tokens, layer.width()), out, workspace);
  return y;
}

/// One row.
Values plain(const Layer& layer, const FinedeepOptions& o, Values h) {
  for (Index m = 0; m < o.layers; ++m) {
    const std::string of = "step" + std::to_string(m) + ".";
    const Values scale = parameter(layer, of + "norm.scale");
    const double rms = std::sqrt(
        std::inner_product(h.begin(), h.end(), h.begin(), 0.0) / static_cast<double>(o.width) + o.eps);
    Values x = h;
    for (std::size_t j = 0; j < x.size(); ++j) x[j] *= scale[j] / rms;
    const Values v = parameter(layer, of + "response.weight");
    for (Index e = 0; e < o.experts; ++e) {
      const std::string name = of + "experts." + std::to_string(e);
      Values g = times(parameter(layer, name + ".gate_proj.weight"), x);
      const Values u = times(parameter(layer, name + ".up_proj.weight"), x);
      for (std::size_t j = 0; j < g.size(); ++j) g[j] = g[j] / (1 + std::exp(-g[j])) * u[j];
      const Values z = times(parameter(layer, name + ".down_proj.weight"), g);
      const double r =
          1 / (1 + std::exp(-std::inner_product(z.begin(), z.end(), v.begin() + e * o.width, 0.0)));
      for (std::size_t j = 0; j < h.size(); ++j) h[j] += r * z[j];
    }
  }
  return h;
}

}  // namespace

TEST_CASE("Finedeep: laws of layers", "[finedeep]") {
  test::check_layer(
      "Finedeep", [] { return moe::finedeep<double>(kOptions); },
      [] {
        FinedeepOptions other = kOptions;
        other.experts = 2;
        return moe::finedeep<double>(other);
      });
  FinedeepOptions shares = kOptions;
  shares.layers = 1;
  shares.weights.normalise = moe::Normalise::sum;
  test::check_layer("Finedeep, one sub-layer, shares", [&] { return moe::finedeep<double>(shares); });
}

TEST_CASE("Finedeep: plain loops", "[finedeep]") {
  for (const Index layers : {1, 2}) {
    FinedeepOptions options = kOptions;
    options.layers = layers;
    const Layer layer = drawn(options);
    const Values x = normal(6 * options.width, 8), y = run(layer, x);
    for (Index t = 0; t < 6; ++t) {
      const auto row = x.begin() + t * options.width;
      const Values want = plain(layer, options, Values(row, row + options.width));
      for (Index j = 0; j < options.width; ++j) {
        const std::size_t i = static_cast<std::size_t>(t * options.width + j);
        CHECK(std::abs(y[i] - want[static_cast<std::size_t>(j)]) <= 1e-13 * (1 + std::abs(y[i])));
      }
    }
  }
}

TEST_CASE("Finedeep: one sub-layer of equal weights is the dense layer that it was cut from", "[finedeep]") {
  FinedeepOptions options = kOptions;
  options.layers = 1;
  options.weights.scale = 2;  // v = 0: twice a half
  Layer layer = moe::finedeep<double>(options);
  moe::Glu<moe::Silu, double> dense({.experts = 1, .width = 5, .hidden = 12});
  dense.initialise(3);
  moe::carve_experts(dense, layer.layers()[0].layer().experts().inner());
  const moe::MoeLayer one(moe::EveryExpert<double>(1), dense);
  const Values x = normal(6 * options.width, 8), y = run(layer, x);
  Values normed = x, want(x.size());
  for (Index t = 0; t < 6; ++t) {
    const auto row = normed.begin() + t * options.width;
    const double rms = std::sqrt(std::inner_product(row, row + 5, row, 0.0) / 5 + options.eps);
    for (Index j = 0; j < 5; ++j) row[j] /= rms;
  }
  moe::Workspace workspace;
  moe::LayerOutput<double> out(moe::MatrixView<double>(want.data(), 6, 5));
  one.forward(moe::ConstMatrixView<double>(normed.data(), 6, 5), out, workspace);
  for (std::size_t i = 0; i < x.size(); ++i) CHECK(std::abs(y[i] - x[i] - want[i]) <= 1e-15);

  // As many parameters, however it is cut, but for norms and responses.
  for (const Index m : {1, 2, 4}) {
    Index experts = 0, all = 0;
    const Layer cut = moe::finedeep<double>({.width = 5, .hidden = 24, .layers = m, .experts = 3});
    cut.visit_parameters([&](const auto& p) {
      all += p.value.size();
      if (std::string(p.name).find("experts.") != std::string::npos) experts += p.value.size();
    });
    CHECK(experts == 3 * 5 * 24);
    CHECK(all == experts + m * (5 + 3 * 5));
  }
}

TEST_CASE("Finedeep: rows that are not finite, and bad arguments", "[finedeep]") {
  FinedeepOptions options = kOptions;
  Values x = normal(4 * options.width, 1);
  const Values whole = run(drawn(options), x);
  x[7] = std::numeric_limits<double>::infinity();
  CHECK_THROWS_AS(run(drawn(options), x), moe::numeric_error);
  options.non_finite = moe::NonFinite::isolate_row;
  const Values y = run(drawn(options), x);
  for (std::size_t i = 0; i < y.size(); ++i) {
    if (i / 5 == 1) {
      CHECK(std::isnan(y[i]));
    } else {
      CHECK(y[i] == whole[i]);
    }
  }
  for (Index FinedeepOptions::*size : {&FinedeepOptions::width, &FinedeepOptions::hidden,
                                       &FinedeepOptions::layers, &FinedeepOptions::experts}) {
    FinedeepOptions bad = kOptions;
    bad.*size = 0;
    CHECK_THROWS_AS(moe::finedeep<double>(bad), moe::config_error);
  }
  FinedeepOptions bad = kOptions;
  bad.hidden = 13;
  CHECK_THROWS_AS(moe::finedeep<double>(bad), moe::config_error);
  bad = kOptions;
  bad.eps = std::nan("");
  CHECK_THROWS_AS(moe::finedeep<double>(bad), moe::config_error);
}
