#include "moe/layer/probe/autonomy_of_experts.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "moe/executor/pool.hpp"
#include "support/catch.hpp"
#include "support/layer_laws.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::AutonomyOptions;
using moe::Index;
using Layer = moe::AutonomyOfExperts<double>;
using Values = std::vector<double>;

constexpr AutonomyOptions kOptions{.width = 5, .experts = 4, .hidden = 6, .probe = 3, .k = 2};

Values normal(Index n, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> draw;
  Values v(static_cast<std::size_t>(n));
  for (double& a : v) a = draw(random);
  return v;
}

Layer made(const AutonomyOptions& options, std::uint64_t seed = 3) {
  Layer layer = moe::autonomy_of_experts<double>(options);
  layer.experts().initialise(seed);
  return layer;
}

/// One named parameter, row-major.
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

/// Of one row: y and the softmax of the lengths of all experts, in plain loops.
Values plain(const Layer& layer, const AutonomyOptions& o, const Values& x, Values* shares = nullptr) {
  const Values probe = parameter(layer, "experts.probe.weight");
  std::vector<Values> c;
  Values p;
  for (Index e = 0; e < o.experts; ++e) {
    const auto begin = probe.begin() + e * o.probe * o.width;
    c.push_back(times(Values(begin, begin + o.probe * o.width), x));
    p.push_back(
        std::exp(std::sqrt(std::inner_product(c.back().begin(), c.back().end(), c.back().begin(), 0.0))));
  }
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& v : p) v /= sum;
  std::vector<Index> order(p.size());
  std::iota(order.begin(), order.end(), Index{0});
  std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
    return p[static_cast<std::size_t>(a)] > p[static_cast<std::size_t>(b)];
  });
  Values y(x.size());
  for (Index i = 0; i < o.k; ++i) {
    const std::size_t e = static_cast<std::size_t>(order[static_cast<std::size_t>(i)]);
    const std::string of = "experts." + std::to_string(e);
    Values h = times(parameter(layer, of + ".gate_proj.weight"), c[e]);
    const Values up = times(parameter(layer, of + ".up_proj.weight"), x);
    for (std::size_t j = 0; j < h.size(); ++j) h[j] = h[j] / (1 + std::exp(-h[j])) * up[j];
    const Values z = times(parameter(layer, of + ".down_proj.weight"), h);
    for (std::size_t j = 0; j < y.size(); ++j) y[j] += p[e] * z[j];
  }
  if (shares != nullptr) *shares = p;
  return y;
}

Values run(const Layer& layer, const Values& x, moe::RouteStats* stats = nullptr) {
  const Index tokens = static_cast<Index>(x.size()) / layer.width();
  Values y(x.size());
  moe::Workspace workspace;
  moe::LayerOutput<double> out(moe::MatrixView<double>(y.data(), tokens, layer.width()), stats);
  layer.forward(moe::ConstMatrixView<double>(x.data(), tokens, layer.width()), out, workspace);
  return y;
}

}  // namespace

TEST_CASE("AutonomyOfExperts: laws of layers", "[probe]") {
  test::check_layer(
      "AutonomyOfExperts", [] { return moe::autonomy_of_experts<double>(kOptions); },
      [] {
        AutonomyOptions other = kOptions;
        other.probe = 4;
        return moe::autonomy_of_experts<double>(other);
      });
  test::check_layer("AutonomyOfExperts, by turns", [] {
    auto layer = moe::autonomy_of_experts<double>(kOptions);
    layer.set_rows_at_a_time(2);
    return layer;
  });
  test::check_layer("AutonomyOfExperts, shares, k = 1", [] {
    return moe::autonomy_of_experts<double>(
        {.width = 19, .experts = 3, .hidden = 17, .probe = 18, .k = 1, .load_balance = 0.3});
  });
}

TEST_CASE("AutonomyOfExperts: plain loops, and all experts chosen are a dense mixture", "[probe]") {
  for (const Index k : {1, 2, 4}) {
    AutonomyOptions options = kOptions;
    options.k = k;
    const Layer layer = made(options);
    const Values x = normal(9 * options.width, 8), y = run(layer, x);
    for (Index t = 0; t < 9; ++t) {
      const auto row = x.begin() + t * options.width;
      const Values want = plain(layer, options, Values(row, row + options.width));
      for (Index j = 0; j < options.width; ++j)
        CHECK(std::abs(y[static_cast<std::size_t>(t * options.width + j)] -
                       want[static_cast<std::size_t>(j)]) <= 1e-14);
    }
  }
}

TEST_CASE("AutonomyOfExperts: a longer probe attracts tokens", "[probe]") {
  AutonomyOptions options = kOptions;
  options.k = 1;
  Layer layer = made(options);
  const Values x = normal(200 * options.width, 4);
  Index before = -1;
  for (const double factor : {1.0, 1.5, 4.0}) {
    Layer scaled = made(options);
    scaled.visit_parameters([&](const moe::Parameter<double>& p) {
      if (p.name != std::string("experts.probe.weight")) return;
      for (Index o = 2 * options.probe; o < 3 * options.probe; ++o)
        for (Index i = 0; i < options.width; ++i) p.value(o, i) *= factor;
    });
    moe::RouteStats stats;
    run(scaled, x, &stats);
    CHECK(stats.load[2] > before);
    before = stats.load[2];
  }
  CHECK(before > 150);
}

TEST_CASE("AutonomyOfExperts: going on from kept probes has the bits of asking again", "[probe]") {
  // Experts 1 and 3 are asked again, one row at a time, with their probes alone in a matrix.
  const Layer layer = made(kOptions);
  const auto& bank = layer.experts();
  const Index tokens = 6, d = kOptions.width;
  const Values x = normal(tokens * d, 21);
  Values y(x.size());
  moe::Workspace workspace;
  moe::LayerOutput<double> out(moe::MatrixView<double>(y.data(), tokens, d));
  moe::PoolExecutor pool(3);
  auto tape = layer.make_tape();
  layer.forward_train(moe::ConstMatrixView<double>(x.data(), tokens, d), out, tape, workspace, pool);
  moe::SerialExecutor serial;
  for (Index t = 0; t < tokens; ++t) {
    Values sum(static_cast<std::size_t>(d)), z(16);
    std::vector<std::pair<Index, double>> chosen;
    const auto& table = tape.routes();
    for (Index p = table.offsets[t]; p < table.offsets[t + 1]; ++p)
      chosen.emplace_back(table.expert[p], table.weight[p]);
    std::sort(chosen.begin(), chosen.end());
    const moe::ConstMatrixView<double> row(x.data() + t * d, 1, d);
    Values memory(200);
    moe::Arena arena(reinterpret_cast<std::byte*>(memory.data()), 1600);
    const auto again = bank.carve_probes(arena, 1);
    const std::int32_t first = 0;
    moe::Workspace scratch;
    moe::Arena work = scratch.arena(1 << 16);
    bank.probe({row, &first, 1}, again, work, serial);
    for (const auto& [e, weight] : chosen) {
      CHECK(test::same_bits(Values(again.of(0, e), again.of(0, e) + kOptions.probe),
                            Values(tape.probes().of(t, e), tape.probes().of(t, e) + kOptions.probe)));
      std::vector<Index> offsets(static_cast<std::size_t>(kOptions.experts + 1));
      for (Index g = e + 1; g <= kOptions.experts; ++g) offsets[static_cast<std::size_t>(g)] = 1;
      const double *read = row.data, *result = z.data();
      moe::RowBatch<double> batch{&read, &first, offsets.data(), kOptions.experts};
      batch.probes = &again;
      bank.forward(batch, {z.data(), 16, &result}, work, serial);
      for (Index j = 0; j < d; ++j)
        sum[static_cast<std::size_t>(j)] =
            std::fma(weight, z[static_cast<std::size_t>(j)], sum[static_cast<std::size_t>(j)]);
    }
    CHECK(test::same_bits(sum, Values(y.begin() + t * d, y.begin() + (t + 1) * d)));
  }
}

TEST_CASE("AutonomyOfExperts: experts that were not chosen have a gradient through their lengths",
          "[probe]") {
  AutonomyOptions options = kOptions;
  options.k = 1;
  options.load_balance = 0;
  const Layer layer = made(options);
  const Values x = normal(options.width, 2);
  Values y(x.size()), dx(x.size());
  const Values dy = normal(options.width, 5);
  moe::Workspace workspace;
  moe::LayerOutput<double> out(moe::MatrixView<double>(y.data(), 1, options.width));
  auto tape = layer.make_tape();
  auto gradients = layer.make_gradients();
  layer.forward_train(moe::ConstMatrixView<double>(x.data(), 1, options.width), out, tape, workspace);
  layer.backward(tape, {{dy.data(), 1, options.width}, {dx.data(), 1, options.width}, gradients}, workspace);
  // d |c_e| = sum_i dw_i p_i (1[i = e] - p_e), for the one chosen i; dc_e = d |c_e| c_e / |c_e|.
  Values p;
  plain(layer, options, x, &p);
  const Index chosen = tape.routes().expert[0];
  const double dw =
      std::inner_product(y.begin(), y.end(), dy.begin(), 0.0) / p[static_cast<std::size_t>(chosen)];
  const Values probe = parameter(layer, "experts.probe.weight");
  const_cast<Layer&>(layer).visit_parameters(gradients, [&](const moe::Parameter<double>& g) {
    if (g.name != std::string("experts.probe.weight")) return;
    for (Index e = 0; e < options.experts; ++e) {
      if (e == chosen) continue;
      const auto begin = probe.begin() + e * options.probe * options.width;
      const Values c = times(Values(begin, begin + options.probe * options.width), x);
      const double length = std::sqrt(std::inner_product(c.begin(), c.end(), c.begin(), 0.0));
      const double dlength = -dw * p[static_cast<std::size_t>(chosen)] * p[static_cast<std::size_t>(e)];
      CHECK(std::abs(dlength) > 1e-6);
      for (Index i = 0; i < options.probe; ++i) {
        for (Index j = 0; j < options.width; ++j) {
          const double want =
              dlength * c[static_cast<std::size_t>(i)] / length * x[static_cast<std::size_t>(j)];
          CHECK(std::abs(g.gradient(e * options.probe + i, j) - want) <= 1e-13);
        }
      }
    }
  });
}

TEST_CASE("AutonomyOfExperts: memory of the probes is T x E x r", "[probe]") {
  const AutonomyOptions small{.width = 64, .experts = 8, .hidden = 8, .probe = 16, .k = 1};
  AutonomyOptions large = small;
  large.probe = 48;
  const Index tokens = 100;
  const auto bytes = [&](const AutonomyOptions& o, moe::Mode mode) {
    return moe::autonomy_of_experts<float>(o).workspace_bytes(tokens, mode);
  };
  // Rows of E r floats are whole cache lines here, and no multiple of 4 KiB.
  const Index more = tokens * small.experts * (large.probe - small.probe) * Index{sizeof(float)};
  CHECK(bytes(large, moe::Mode::inference) - bytes(small, moe::Mode::inference) == more);
  CHECK(bytes(large, moe::Mode::training) - bytes(small, moe::Mode::training) == more);
}

TEST_CASE("AutonomyOfExperts: rows that are not finite, and bad arguments", "[probe]") {
  AutonomyOptions options = kOptions;
  options.non_finite = moe::NonFinite::isolate_row;
  const Layer layer = made(options), strict = made(kOptions);
  Values x = normal(5 * options.width, 30);
  const Values whole = run(layer, x);
  x[static_cast<std::size_t>(2 * options.width + 1)] = -std::numeric_limits<double>::infinity();
  CHECK_THROWS_AS(run(strict, x), moe::numeric_error);
  const Values y = run(layer, x);
  for (std::size_t i = 0; i < y.size(); ++i) {
    if (i / static_cast<std::size_t>(options.width) == 2) {
      CHECK(std::isnan(y[i]));
    } else {
      CHECK(y[i] == whole[i]);
    }
  }
  // Nor is it in any gradient.
  Values out_y(x.size()), dx(x.size());
  const Values dy = normal(5 * options.width, 31);
  moe::Workspace workspace;
  moe::LayerOutput<double> out(moe::MatrixView<double>(out_y.data(), 5, options.width));
  auto tape = layer.make_tape();
  auto gradients = layer.make_gradients();
  layer.forward_train(moe::ConstMatrixView<double>(x.data(), 5, options.width), out, tape, workspace);
  layer.backward(tape, {{dy.data(), 5, options.width}, {dx.data(), 5, options.width}, gradients}, workspace);
  layer.visit_storage(gradients, [](const char*, const double*, double* g, Index n) {
    for (Index i = 0; i < n; ++i) CHECK(std::isfinite(g[i]));
  });

  for (Index AutonomyOptions::*size :
       {&AutonomyOptions::width, &AutonomyOptions::experts, &AutonomyOptions::hidden, &AutonomyOptions::probe,
        &AutonomyOptions::k}) {
    AutonomyOptions bad = kOptions;
    bad.*size = 0;
    CHECK_THROWS_AS(moe::autonomy_of_experts<double>(bad), moe::config_error);
  }
  AutonomyOptions bad = kOptions;
  bad.k = 5;
  CHECK_THROWS_AS(moe::autonomy_of_experts<double>(bad), moe::config_error);
  bad = kOptions;
  bad.load_balance = std::nan("");
  CHECK_THROWS_AS(moe::autonomy_of_experts<double>(bad), moe::config_error);
  moe::LayerInput<double> in(moe::ConstMatrixView<double>(x.data(), 5, options.width));
  in.options.threshold = 0.5;
  CHECK_THROWS_AS(layer.forward(in, out, workspace), moe::config_error);
}
