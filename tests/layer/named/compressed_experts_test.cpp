#include "moe/layer/named/compressed_experts.hpp"

#include <random>
#include <vector>

#include "support/catch.hpp"
#include "support/layer_laws.hpp"
#include "support/same_bits.hpp"

using moe::Index;

namespace {

auto layer_of(Index hidden, Index k_main = 1) {
  return moe::compressed_experts<double>(
      {.width = 5, .experts = 4, .hidden = hidden, .k = 3, .k_main = k_main, .bias = true});
}

struct Call {
  std::vector<double> x = std::vector<double>(9 * 5), y = x;
  moe::Workspace workspace;

  Call() {
    std::mt19937_64 random(5);
    std::normal_distribution<double> normal;
    for (double& v : x) v = normal(random);
  }
  template <class L>
  std::vector<double> run(L& layer, Index k = 0) {
    moe::LayerOutput<double> out(moe::MatrixView<double>(y.data(), 9, 5));
    moe::LayerInput<double> in(moe::ConstMatrixView<double>(x.data(), 9, 5));
    in.options.experts_per_token = k;
    layer.forward(in, out, workspace);
    return y;
  }
};

}  // namespace

TEST_CASE("CompressedMoe: laws", "[layer]") {
  test::check_layer(
      "CompressedMoe", [] { return layer_of(7); }, [] { return layer_of(6); });
}

TEST_CASE("compressed experts of 0 leave the main ones; of every vector they scale the row", "[layer]") {
  Call call;
  auto layer = layer_of(7);
  layer.router().inner().scorer().initialise(1);
  layer.experts().bank<0>().initialise(2);
  moe::MoeLayer plain(layer.router().inner(), layer.experts().bank<0>());
  // One choice of the plain router has the weight that it has among three: probabilities are not divided.
  CHECK(test::same_bits(call.run(layer), call.run(plain, 1)));
  auto all = layer_of(7, 3);
  all.router() = moe::SplitRanks(layer.router().inner(), 3);
  all.experts() = layer.experts();
  CHECK(test::same_bits(call.run(all), call.run(plain)));

  // Every c_e = 1: the row comes back with the weights of the lower choices.
  layer.experts().bank<1>().visit_parameters(nullptr, [](const moe::Parameter<double>& p) {
    for (Index j = 0; j < 5; ++j) p.value(j, 0) = 1;
  });
  const auto one = call.run(plain, 1), got = call.run(layer);
  for (std::size_t t = 0; t < 9; ++t) {
    double sum = 0, e[4], best = 0, second = 0, third = 0;
    for (Index i = 0; i < 4; ++i) {
      double logit = 0;
      for (Index j = 0; j < 5; ++j)
        logit +=
            plain.router().scorer().projection().weight()(i, j) * call.x[t * 5 + static_cast<std::size_t>(j)];
      sum += e[i] = std::exp(logit);
    }
    for (const double v : e) {
      if (v > best)
        third = second, second = best, best = v;
      else if (v > second)
        third = second, second = v;
      else if (v > third)
        third = v;
    }
    for (std::size_t j = 0; j < 5; ++j)
      CHECK(std::abs(got[t * 5 + j] - one[t * 5 + j] - (second + third) / sum * call.x[t * 5 + j]) <= 1e-14);
  }
}

TEST_CASE("options of CompressedMoe are checked", "[layer]") {
  CHECK_THROWS_AS(layer_of(7, 4), moe::config_error);
  CHECK_THROWS_AS(layer_of(7, -1), moe::config_error);
  CHECK_THROWS_AS(layer_of(0), moe::config_error);
}
