#include "moe/layer/probe/coupling_loss.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "moe/executor/pool.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/probing_glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::CouplingOptions;
using moe::Index;
using Glu = moe::Glu<moe::Silu, double>;
using Layer = moe::MoeLayer<moe::SoftmaxTopK<double>, Glu>;
using Values = std::vector<double>;

constexpr Index kExperts = 4, kWidth = 6, kHidden = 5;

Layer layer_of(Index experts = kExperts, Index hidden = kHidden) {
  return {moe::softmax_top_k<double>({.width = kWidth, .experts = experts, .k = 2}),
          Glu({.experts = experts, .width = kWidth, .hidden = hidden, .bias = true})};
}

/// f(matrix name, row, column) for every router row and gate projection; others 0.
template <class F>
void fill(Layer& layer, const F& f) {
  layer.visit_parameters([&](const moe::Parameter<double>& p) {
    const std::string name = p.name;
    const bool read = name == "gate.weight" || name.find("gate_proj.weight") != std::string::npos;
    for (Index i = 0; i < p.value.size(); ++i) {
      double& v = p.value(i / p.value.cols, i % p.value.cols);
      v = read ? f(name, i / p.value.cols, i % p.value.cols) : 0.0;
    }
  });
}
Layer drawn(Index experts = kExperts) {
  Layer layer = layer_of(experts);
  std::mt19937_64 random(3);
  std::normal_distribution<double> draw;
  fill(layer, [&](const std::string&, Index, Index) { return draw(random); });
  return layer;
}

struct Weights {
  std::vector<Values> r;               // [N][D]
  std::vector<std::vector<Values>> w;  // [N][F][D]
};
Weights weights_of(const Layer& layer) {
  Weights all;
  all.w.resize(static_cast<std::size_t>(layer.experts().experts()));
  layer.visit_parameters([&](const auto& p) {
    const std::string name = p.name;
    const bool gate = name.find("gate_proj.weight") != std::string::npos;
    for (Index o = 0; (gate || name == "gate.weight") && o < p.value.rows; ++o) {
      Values row;
      for (Index i = 0; i < p.value.cols; ++i) row.push_back(p.value(o, i));
      (gate ? all.w[static_cast<std::size_t>(std::stoi(name.substr(8)))] : all.r).push_back(row);
    }
  });
  return all;
}

/// Multipliers of the rows, which gradients take as constants.
std::vector<Values> multipliers(const Weights& of, const moe::DrawKey& key) {
  const moe::KeyedRandom random(key, moe::DrawStream::jitter);
  std::vector<Values> u = of.r;
  for (std::size_t i = 0; i < u.size(); ++i) {
    double nearest = std::numeric_limits<double>::infinity(), length = 0;
    for (std::size_t j = 0; j < u.size(); ++j) {
      double squares = 0;
      for (std::size_t d = 0; d < u[i].size(); ++d)
        squares += (of.r[i][d] - of.r[j][d]) * (of.r[i][d] - of.r[j][d]);
      if (i != j) nearest = std::min(nearest, std::sqrt(squares));
    }
    for (const double v : of.r[i]) length += v * v;
    const double radius = nearest / (2 * std::sqrt(length));
    for (std::size_t d = 0; d < u[i].size(); ++d)
      u[i][d] = 1 + radius * (2 * random.uniform(i, static_cast<std::uint32_t>(d)) - 1);
  }
  return u;
}

double plain(const Weights& of, const std::vector<Values>& u, const CouplingOptions& options) {
  const std::size_t n = of.r.size();
  std::vector<Values> m(n, Values(n));
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      for (const Values& w : of.w[j]) {
        double v = 0;
        for (std::size_t d = 0; d < w.size(); ++d) v += w[d] * of.r[i][d] * u[i][d];
        m[i][j] += v * v;
      }
      m[i][j] = std::sqrt(m[i][j]);
    }
  }
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      if (i == j) continue;
      sum +=
          std::max(m[i][j] - options.alpha * m[i][i], 0.0) + std::max(m[j][i] - options.alpha * m[i][i], 0.0);
    }
  }
  return options.coefficient * sum / static_cast<double>(n * n);
}

double loss_of(const Layer& layer, const CouplingOptions& options, Layer::Gradients* gradients = nullptr,
               double scale = 1) {
  moe::DrawCounter draws(5, 8);
  moe::Workspace workspace;
  return moe::coupling_loss(options, layer, draws, scale, gradients, workspace);
}

}  // namespace

TEST_CASE("coupling loss: both sides, by hand", "[coupling]") {
  // Row 0 is within its bounds, but expert 0 answers to row 1 with 3 > 2; row 1's own answer is 1.
  Values m{2, 1, 3, 1}, dm(4);
  const moe::MatrixView<double> answers(m.data(), 2, 2), gradients(dm.data(), 2, 2);
  // i = 0: max(1 - 2, 0) + max(3 - 2, 0); i = 1: max(3 - 1, 0) + max(1 - 1, 0).
  CHECK(moe::impl::coupling_of(answers, 1.0, gradients) == 3.0 / 4);
  CHECK(dm == Values{-0.25, 0, 0.5, -0.25});
  CHECK(moe::impl::coupling_of(answers, 0.5, moe::MatrixView<double>{}) == (0 + 2 + 2.5 + 0.5) / 4);
}

TEST_CASE("coupling loss: plain loops, whatever the executor; draws move on", "[coupling]") {
  const Layer layer = drawn();
  const Weights weights = weights_of(layer);
  for (const double alpha : {0.0, 0.5, 1.0}) {
    const CouplingOptions options{.coefficient = 0.7, .alpha = alpha};
    moe::DrawCounter draws(5, 8);
    const double want = plain(weights, multipliers(weights, draws.key()), options);
    CHECK(want > 0);
    moe::Workspace workspace;
    const double got = moe::coupling_loss(options, layer, draws, 1, nullptr, workspace);
    CHECK(std::abs(got - want) <= 1e-14 * want);
    CHECK(draws.calls() == 9);
    moe::DrawCounter again(5, 8);
    moe::PoolExecutor pool(3);
    CHECK(test::same_bits(Values{moe::coupling_loss(options, layer, again, 1, nullptr, workspace, pool)},
                          Values{got}));
    const CouplingOptions still{.coefficient = 0.7, .alpha = alpha, .noise = false};
    const std::vector<Values> ones(kExperts, Values(kWidth, 1));
    CHECK(std::abs(loss_of(layer, still) - plain(weights, ones, still)) <= 1e-14 * want);
  }
}

TEST_CASE("coupling loss: experts that answer to their own rows alone have none, equal ones have some",
          "[coupling]") {
  Layer own = layer_of(), equal = layer_of();
  // Row i is 3 e_i, and expert j reads coordinate j only: perturbed rows, too, are multiples of e_i.
  fill(own, [](const std::string& name, Index o, Index i) {
    if (name == "gate.weight") return o == i ? 3.0 : 0.0;
    return i == std::stoi(name.substr(8)) ? 1.0 + static_cast<double>(o) : 0.0;
  });
  fill(equal, [](const std::string& name, Index o, Index i) {
    return name == "gate.weight" ? std::cos(static_cast<double>(o * 7 + i))
                                 : std::sin(static_cast<double>(o + 3 * i));
  });
  Layer::Gradients gradients = own.make_gradients();
  CHECK(loss_of(own, {}, &gradients) == 0);
  own.visit_storage(gradients, [](const char*, const double*, double* g, Index n) {
    for (Index i = 0; i < n; ++i) CHECK(g[i] == 0);
  });
  CHECK(loss_of(own, {.alpha = 0.0}) == 0);
  for (const double alpha : {0.0, 0.5, 0.9}) CHECK(loss_of(equal, {.alpha = alpha}) > 0);
}

TEST_CASE("coupling loss: gradients of rows and gates by differences, the radius a constant", "[coupling]") {
  Layer layer = drawn();
  const CouplingOptions options{.coefficient = 0.7, .alpha = 0.8};
  Layer::Gradients gradients = layer.make_gradients();
  loss_of(layer, options, &gradients, 0.5);
  const Weights base = weights_of(layer);
  const std::vector<Values> u = multipliers(base, {5, 8});
  Index compared = 0;
  layer.visit_parameters(gradients, [&](const moe::Parameter<double>& p) {
    const std::string name = p.name;
    const bool read = name == "gate.weight" || name.find("gate_proj.weight") != std::string::npos;
    for (Index i = 0; i < p.value.size(); ++i) {
      const Index o = i / p.value.cols, c = i % p.value.cols;
      if (!read) {
        CHECK(p.gradient(o, c) == 0);
        continue;
      }
      const auto at = [&](double step) {
        Weights moved = base;
        const auto row = static_cast<std::size_t>(o), column = static_cast<std::size_t>(c);
        (name == "gate.weight" ? moved.r
                               : moved.w[static_cast<std::size_t>(std::stoi(name.substr(8)))])[row][column] +=
            step;
        return plain(moved, u, options);
      };
      const double h = 1e-5;
      CHECK(std::abs(0.5 * (at(h) - at(-h)) / (2 * h) - p.gradient(o, c)) <= 1e-9);
      ++compared;
    }
  });
  CHECK(compared == kExperts * kWidth * (1 + kHidden));

  // Added to, and of one part alone: the other is frozen.
  Layer::Gradients twice = layer.make_gradients();
  loss_of(layer, options, &twice, 0.25);
  loss_of(layer, options, &twice, 0.25);
  moe::DrawCounter draws(5, 8);
  moe::Workspace workspace;
  auto rows = layer.router().scorer().make_gradients();
  moe::coupling_loss(options, layer.router().scorer().projection(), moe::GateProbe(layer.experts()), draws,
                     0.5, &rows, nullptr, workspace);
  for (Index i = 0; i < rows.weight.size(); ++i) {
    CHECK(rows.weight[i] == gradients.router.scorer.weight[i]);
    CHECK(std::abs(twice.router.scorer.weight[i] - rows.weight[i]) <= 1e-16);
  }
}

TEST_CASE("coupling loss: experts that choose themselves answer by their probes", "[coupling]") {
  using Bank = moe::ProbingGlu<moe::Silu, double>;
  Bank bank({.experts = 3, .width = kWidth, .probe = 2, .hidden = 4});
  bank.initialise(4);
  moe::Projection<double> rows(kWidth, 3, false);
  rows.initialise(7);
  auto gradients = bank.make_gradients();
  moe::DrawCounter draws(1);
  moe::Workspace workspace;
  const double loss =
      moe::coupling_loss({.noise = false}, rows, bank, draws, 1, nullptr, &gradients, workspace);
  CHECK(loss > 0);
  const double h = 1e-6;
  bank.visit_parameters(&gradients, [&](const moe::Parameter<double>& p) {
    if (std::string(p.name) != "experts.probe.weight") return;
    const double old = p.value(1, 2);
    const auto at = [&](double step) {
      p.value(1, 2) = old + step;
      return moe::coupling_loss({.noise = false}, rows, bank, draws, 1, nullptr,
                                static_cast<Bank::Gradients*>(nullptr), workspace);
    };
    CHECK(std::abs((at(h) - at(-h)) / (2 * h) - p.gradient(1, 2)) <= 1e-8);
    p.value(1, 2) = old;
  });
}

TEST_CASE("coupling loss: one expert, and bad arguments", "[coupling]") {
  moe::Workspace workspace;
  moe::DrawCounter draws(5);
  const Layer alone{moe::softmax_top_k<double>({.width = kWidth, .experts = 1, .k = 1}),
                    Glu({.experts = 1, .width = kWidth, .hidden = 2})};
  CHECK(moe::coupling_loss({}, alone, draws, 1, nullptr, workspace) == 0);

  Layer layer = drawn();
  for (const double alpha : {-0.1, 1.1, std::nan("")})
    CHECK_THROWS_AS(loss_of(layer, {.alpha = alpha}), moe::config_error);
  CHECK_THROWS_AS(loss_of(layer, {.coefficient = std::nan("")}), moe::config_error);
  CHECK_THROWS_AS(loss_of(layer, {}, nullptr, std::nan("")), moe::config_error);
  Layer::Gradients gradients = layer.make_gradients(), others = layer_of(3).make_gradients(),
                   narrow = layer_of(kExperts, 4).make_gradients();
  CHECK_THROWS_AS(loss_of(layer, {}, &others), moe::shape_error);
  CHECK_THROWS_AS(loss_of(layer, {}, &narrow), moe::shape_error);
  moe::Projection<double> three(kWidth, 3, false), wide(kWidth + 1, kExperts, false);
  const moe::GateProbe probe(layer.experts());
  CHECK_THROWS_AS(moe::coupling_loss({}, three, probe, draws, 1, nullptr, nullptr, workspace),
                  moe::config_error);
  CHECK_THROWS_AS(moe::coupling_loss({}, wide, probe, draws, 1, nullptr, nullptr, workspace),
                  moe::shape_error);
  fill(layer, [](const std::string&, Index, Index) { return std::numeric_limits<double>::max(); });
  CHECK_THROWS_AS(loss_of(layer, {}, &gradients), moe::numeric_error);
  layer.visit_storage(gradients, [](const char*, const double*, double* g, Index n) {
    for (Index i = 0; i < n; ++i) CHECK(g[i] == 0);
  });
  CHECK(draws.calls() == 1);
}
