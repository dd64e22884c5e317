#include "moe/depth/gated_paths.hpp"

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "moe/depth/parallel.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/expert_choice.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"
#include "support/depth_calls.hpp"
#include "support/layer_laws.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::Index;
using test::Values;
using Bank = moe::Mlp<moe::Silu, double>;
using Path = moe::MoeLayer<moe::SoftmaxTopK<double>, Bank>;
using Paths = moe::Parallel<Path>;

constexpr Index kTokens = 5, kWidth = 4;

moe::GatedPaths<Paths> gated(int paths = 3, moe::NonFinite non_finite = moe::NonFinite::throw_) {
  std::vector<Path> all;
  for (int i = 0; i < paths; ++i) {
    all.push_back(
        Path(moe::softmax_top_k<double>({.width = kWidth, .experts = 3, .k = 2, .non_finite = non_finite}),
             Bank({.experts = 3, .width = kWidth, .hidden = 3})));
  }
  moe::GatedPaths layer(Paths(std::move(all), moe::Join::concatenate));
  test::draw_parameters(layer, 5);
  return layer;
}

}  // namespace

TEST_CASE("GatedPaths: laws of layers", "[depth]") {
  test::check_layer(
      "GatedPaths", [] { return gated(); }, [] { return gated(2); });
  test::check_layer("GatedPaths of coupled layers",
                    [] {
                      using Choice = moe::MoeLayer<moe::ExpertChoice<double>, Bank>;
                      std::vector<Choice> all;
                      for (int i = 0; i < 2; ++i) {
                        all.push_back(Choice(moe::expert_choice<double>(
                                                 {.width = kWidth, .experts = 3, .capacity_factor = 1.5}),
                                             Bank({.experts = 3, .width = kWidth, .hidden = 3})));
                      }
                      return moe::GatedPaths(moe::Parallel(std::move(all), moe::Join::concatenate));
                    },
                    {.seed = 2});
}

TEST_CASE("GatedPaths: results weighed by a softmax of the row; at first their mean", "[depth]") {
  auto layer = gated();
  const Values x = test::normal_rows(1, kTokens, kWidth);
  moe::Workspace workspace;
  Values y(x.size()), paths(3 * x.size());
  moe::LayerOutput<double> out(test::rows_of(y, kWidth)), to(test::rows_of(paths, 3 * kWidth));
  layer.layer().forward(test::rows_of(x, kWidth), to, workspace, test::serial());
  for (const bool first : {false, true}) {
    if (first) {
      test::visit_layer(layer, [](const moe::Parameter<double>& p) {
        const std::string name = p.name;
        for (Index i = 0; name.starts_with("gate.") && i < p.value.size(); ++i) {
          p.value(i / p.value.cols, i % p.value.cols) = 0;
        }
      });
    }
    std::vector<double> weight, bias;
    test::visit_layer(layer, [&](const moe::Parameter<double>& p) {
      const std::string name = p.name;
      for (Index i = 0; i < p.value.size(); ++i) {
        if (name == "gate.weight") weight.push_back(p.value(i / kWidth, i % kWidth));
        if (name == "gate.bias") bias.push_back(p.value(i, 0));
      }
    });
    layer.forward(test::rows_of(x, kWidth), out, workspace, test::serial());
    for (std::size_t t = 0; t < kTokens; ++t) {
      double share[3], sum = 0;
      for (std::size_t i = 0; i < 3; ++i) {
        double logit = bias[i];
        for (std::size_t j = 0; j < kWidth; ++j) logit += weight[i * kWidth + j] * x[t * kWidth + j];
        sum += share[i] = std::exp(logit);
      }
      for (std::size_t j = 0; j < kWidth; ++j) {
        double want = 0;
        for (std::size_t i = 0; i < 3; ++i) want += share[i] / sum * paths[(t * 3 + i) * kWidth + j];
        CHECK(std::abs(y[t * kWidth + j] - want) <= 1e-14);
      }
    }
  }
}

TEST_CASE("GatedPaths: rows that a path isolates, and those without a gate, are NaN and train nothing",
          "[depth]") {
  auto layer = gated(2, moe::NonFinite::isolate_row);
  test::visit_layer(layer, [](const moe::Parameter<double>& p) {
    if (std::string(p.name) == "gate.weight") p.value(0, 3) = 1e200;
    if (std::string(p.name) == "branch0.gate.weight" || std::string(p.name) == "branch1.gate.weight") {
      for (Index e = 0; e < p.value.rows; ++e) p.value(e, 3) = 0;
    }
  });
  Values x = test::normal_rows(1, kTokens, kWidth), dy = test::normal_rows(2, kTokens, kWidth);
  for (std::size_t t = 0; t < kTokens; ++t) x[t * kWidth + 3] = 0;
  const auto train = [&](Values rows, moe::Buffer<bool>* valid) {
    moe::LayerInput<double> in(test::rows_of(std::as_const(rows), kWidth));
    if (valid != nullptr) in.valid = {valid->data(), static_cast<std::size_t>(valid->size())};
    test::Trained trained(layer, in, dy, 0);
    return std::pair(trained.y, test::flat_gradients(layer, trained.gradients));
  };
  moe::Buffer<bool> valid(kTokens);
  valid.assign(kTokens, true);
  valid[1] = valid[3] = false;
  const auto without = train(x, &valid);
  x[1 * kWidth] = std::numeric_limits<double>::quiet_NaN();
  x[3 * kWidth + 3] = 1e200;  // its gate's logit is infinite
  const auto spoiled = train(x, nullptr);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const bool bad = i / kWidth == 1 || i / kWidth == 3;
    CHECK((bad ? std::isnan(spoiled.first[i]) : spoiled.first[i] == without.first[i]));
  }
  CHECK(test::same_bits(spoiled.second, without.second));
}

TEST_CASE("GatedPaths: bad arguments", "[depth]") {
  auto layer = gated();
  CHECK(layer.paths() == 3);
  Values x = test::normal_rows(1, kTokens, kWidth), y(x.size());
  moe::Workspace workspace;
  moe::LayerOutput<double> out(test::rows_of(y, kWidth));
  moe::LayerInput<double> in(test::rows_of(std::as_const(x), kWidth));
  in.router_x = test::rows_of(std::as_const(x), kWidth);
  CHECK_THROWS_AS(layer.forward(in, out, workspace, test::serial()), moe::config_error);
  auto tape = layer.make_tape();
  const Values dy(x.size());
  Values dx(x.size());
  const moe::GatedPaths<Paths>::LayerGradients back(test::rows_of(dy, kWidth), test::rows_of(dx, kWidth));
  CHECK_THROWS_AS(layer.backward(tape, back, workspace, test::serial()), moe::state_error);
  const auto taken = std::move(layer);
  CHECK_THROWS_AS(layer.forward(test::rows_of(std::as_const(x), kWidth), out, workspace, test::serial()),
                  moe::state_error);
  taken.forward_train(test::rows_of(std::as_const(x), kWidth), out, tape, workspace, test::serial());
  CHECK_NOTHROW(taken.backward(tape, back, workspace, test::serial()));
  auto bad = back;
  bad.router_dx = test::rows_of(dx, kWidth);
  CHECK_THROWS_AS(taken.backward(tape, bad, workspace, test::serial()), moe::config_error);
  bad = back;
  bad.dy = test::rows_of(dy, 2);
  CHECK_THROWS_AS(taken.backward(tape, bad, workspace, test::serial()), moe::state_error);
}
