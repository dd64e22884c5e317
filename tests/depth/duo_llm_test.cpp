#include "moe/depth/duo_llm.hpp"

#include <cmath>
#include <span>
#include <vector>

#include "moe/analysis/oracle_path.hpp"
#include "moe/depth/chain.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/expert/bank/nested.hpp"
#include "moe/kernel/activation.hpp"
#include "support/catch.hpp"
#include "support/depth_calls.hpp"
#include "support/layer_laws.hpp"

namespace {

using moe::Index;
using test::Values;
using Bank = moe::Mlp<moe::Silu, double>;

constexpr Index kWidth = 4, kLayers = 3;

moe::DuoLlm<Bank> layer() {
  return moe::duo_llm(Bank({.experts = 1, .width = kWidth, .hidden = 8}),
                      Bank({.experts = 1, .width = kWidth, .hidden = 2}));
}
using Nested = moe::NestedMlp<moe::Silu, double>;
moe::DuoNested<Nested> nested() {
  static constexpr Index kWidths[] = {8, 4};
  return moe::duo_nested(Nested({.width = kWidth, .widths = kWidths}));
}
moe::Chain<moe::DuoLlm<Bank>> model() {
  std::vector<moe::DuoLlm<Bank>> layers;
  for (Index l = 0; l < kLayers; ++l) layers.push_back(layer());
  moe::Chain made(std::move(layers), moe::Residual::inner);
  test::draw_parameters(made, 4);
  return made;
}

}  // namespace

TEST_CASE("Duo-LLM's layer, in training at random, keeps the laws of layers", "[depth]") {
  test::check_layer("duo", [] { return layer(); });
  test::check_layer("three of them", [] { return model(); });
  test::check_layer("nested", [] { return nested(); });
}

TEST_CASE("Duo-LLM nested: the small expert is the first part of the big one", "[depth]") {
  auto duo = nested();
  test::draw_parameters(duo, 4);
  CHECK(duo.experts().bank<0>().hidden_of(moe::kDuoBig) == 8);
  CHECK(duo.experts().bank<0>().hidden_of(moe::kDuoSmall) == 4);
  CHECK(duo.router().experts() == 3);
  for (const std::vector<Index>& bad : {std::vector<Index>{8}, {4, 8}}) {
    CHECK_THROWS_AS(moe::duo_nested(Nested({.width = kWidth, .widths = bad})), moe::config_error);
  }
}

TEST_CASE("Duo-LLM: given paths are the experts by hand, and skip hands the row on, bit for bit", "[depth]") {
  auto duo = layer();
  test::draw_parameters(duo, 4);
  const Values x = test::normal_rows(5, 3, kWidth), one(3, 1);
  const std::vector<moe::ExpertId> ids{moe::kDuoSmall, moe::kDuoSkip, moe::kDuoBig};
  const auto given = moe::duo_given<Bank>({ids.data(), 3, 1}, {one.data(), 3, 1}, duo.experts());
  Values y(x.size());
  moe::LayerOutput<double> out(test::rows_of(y, kWidth));
  moe::Workspace workspace;
  given.forward(test::rows_of(x, kWidth), out, workspace, test::serial());
  for (Index j = 0; j < kWidth; ++j) {
    const auto i = static_cast<std::size_t>(kWidth + j);
    CHECK(y[i] == 0);
    CHECK(x[i] + y[i] == x[i]);
  }
  for (const Index t : {0, 2}) {
    // Both experts' parameters, as they are shown.
    std::vector<double> up, down;
    test::visit_layer(duo, [&](const moe::Parameter<double>& p) {
      const std::string want = "experts." + std::to_string(ids[static_cast<std::size_t>(t)]) + ".fc";
      if (!std::string(p.name).starts_with(want)) return;
      auto& to = std::string(p.name).find("fc1") != std::string::npos ? up : down;
      for (Index i = 0; i < p.value.size(); ++i) to.push_back(p.value(i / p.value.cols, i % p.value.cols));
    });
    const std::size_t hidden = up.size() / kWidth;
    CHECK(hidden == (t == 0 ? 2 : 8));
    for (std::size_t o = 0; o < kWidth; ++o) {
      long double sum = 0;
      for (std::size_t h = 0; h < hidden; ++h) {
        long double a = 0;
        for (std::size_t i = 0; i < kWidth; ++i)
          a += up[h * kWidth + i] * x[static_cast<std::size_t>(t * kWidth) + i];
        sum += down[o * hidden + h] * a / (1 + std::exp(-a));
      }
      CHECK(std::abs(y[static_cast<std::size_t>(t * kWidth) + o] - static_cast<double>(sum)) <= 1e-14);
    }
  }
}

TEST_CASE("Duo-LLM: the oracle's path of every row is best of 27, and never worse than chance in training",
          "[depth]") {
  auto duo = model();
  const Index rows = 4;
  const Values x = test::normal_rows(5, rows, kWidth), target = test::normal_rows(6, rows, kWidth);
  moe::Workspace workspace;
  const auto distance = [&](Index t, const Values& y) {
    double sum = 0;
    for (Index j = 0; j < kWidth; ++j) {
      const double off = y[static_cast<std::size_t>(j)] - target[static_cast<std::size_t>(t * kWidth + j)];
      sum += off * off;
    }
    return sum;
  };
  const double one = 1;
  const auto loss = [&](Index t, const moe::ConstMatrixView<Index>&, std::span<const Index> path) {
    Values h(x.begin() + t * kWidth, x.begin() + (t + 1) * kWidth), y(h.size());
    for (std::size_t l = 0; l < path.size(); ++l) {
      const auto id = static_cast<moe::ExpertId>(path[l]);
      const auto given = moe::duo_given<Bank>({&id, 1, 1}, {&one, 1, 1}, duo.layers()[l].experts());
      moe::LayerOutput<double> out(test::rows_of(y, kWidth));
      given.forward(test::rows_of(std::as_const(h), kWidth), out, workspace, test::serial());
      for (std::size_t j = 0; j < h.size(); ++j) h[j] += y[j];
    }
    return distance(t, h);
  };
  const double cost[] = {4, 1, 0};
  const moe::OraclePaths best = moe::oracle_paths(rows, {kLayers, 3, cost}, loss);
  const moe::OraclePaths cheap = moe::oracle_paths(rows, {kLayers, 3, cost, 4}, loss);
  for (Index t = 0; t < rows; ++t) {
    const auto i = static_cast<std::size_t>(t);
    CHECK(best.loss[i] <= cheap.loss[i]);
    CHECK(cheap.cost[i] <= 4);
    for (Index p = 0; p < 27; ++p) {
      const std::vector<Index> path{p / 9, p / 3 % 3, p % 3};
      CHECK(best.loss[i] <= loss(t, {}, path));
    }
  }
  // Random routes of training are paths, too.
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    moe::DrawCounter draws(seed);
    Values y(x.size());
    moe::LayerInput<double> in(test::rows_of(x, kWidth));
    in.draws = &draws;
    moe::LayerOutput<double> out(test::rows_of(y, kWidth));
    duo.forward(in, out, workspace, test::serial());
    for (Index t = 0; t < rows; ++t) {
      CHECK(best.loss[static_cast<std::size_t>(t)] <=
            distance(t, Values(y.begin() + t * kWidth, y.begin() + (t + 1) * kWidth)));
    }
  }
}

TEST_CASE("Duo-LLM refuses banks of several experts or of two widths", "[depth]") {
  CHECK_THROWS_AS(moe::duo_llm(Bank({.experts = 2, .width = 4, .hidden = 3}),
                               Bank({.experts = 1, .width = 4, .hidden = 3})),
                  moe::config_error);
  CHECK_THROWS_AS(moe::duo_llm(Bank({.experts = 1, .width = 4, .hidden = 3}),
                               Bank({.experts = 1, .width = 5, .hidden = 3})),
                  moe::config_error);
}
