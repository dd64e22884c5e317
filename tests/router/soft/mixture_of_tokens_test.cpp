#include "moe/router/soft/mixture_of_tokens.hpp"

#include <cmath>
#include <vector>

#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/soft/soft_layer.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/layer_laws.hpp"
#include "support/mixing.hpp"

namespace {

using moe::Index;
using test::check_close;
using test::forward_rows;
using test::normal_rows;
using Bank = moe::Glu<moe::Silu, double>;
using Layer = moe::SoftLayer<moe::MixtureOfTokensRouter<double>, Bank>;
constexpr Index kWidth = 5, kExperts = 3;

Layer make(Index group, bool shares = true) {
  Layer layer(moe::mixture_of_tokens<double>(
                  {.width = kWidth, .experts = kExperts, .group = group, .shares = shares}),
              Bank({.experts = kExperts, .width = kWidth, .hidden = 4}));
  layer.router().scorer().initialise(1, 2);
  layer.experts().initialise(2);
  return layer;
}

/// What expert e makes of one row.
std::vector<double> expert(const Layer& layer, Index e, const std::vector<double>& row) {
  std::vector<Index> offsets(kExperts + 1);
  for (Index i = 0; i <= kExperts; ++i) offsets[static_cast<std::size_t>(i)] = i > e ? 1 : 0;
  const double* const from = row.data();
  const std::int32_t token = 0;
  std::vector<double> y(static_cast<std::size_t>(moe::row_stride<double>(kWidth)));
  const double* result = y.data();
  moe::Arena measuring;
  layer.experts().measure(measuring, 1, 1);
  moe::Workspace memory;
  moe::Arena arena = memory.arena(measuring.bytes());
  moe::SerialExecutor executor;
  layer.experts().forward(moe::RowBatch<double>{&from, &token, offsets.data(), kExperts},
                          moe::RowSink<double>{y.data(), moe::row_stride<double>(kWidth), &result}, arena,
                          executor);
  return {result, result + kWidth};
}

/// Mixture of Tokens from the paper's formula: rows at one position of `group` sequences in a row.
std::vector<double> plain(const Layer& layer, const std::vector<double>& x, const std::vector<Index>& ends,
                          Index group, bool shares) {
  std::vector<std::vector<double>> w;
  layer.visit_parameters([&](const auto& p) {
    if (std::string(p.name) != "gate.weight") return;
    for (Index o = 0; o < p.value.rows; ++o) {
      w.emplace_back();
      for (Index i = 0; i < p.value.cols; ++i) w.back().push_back(p.value(o, i));
    }
  });
  std::vector<double> y(x.size());
  const auto segments = static_cast<Index>(ends.size()) - 1;
  for (Index first = 0; first < segments; first += group) {
    for (Index position = 0; position < 100; ++position) {
      std::vector<Index> rows;
      for (Index s = first; s < std::min(first + group, segments); ++s) {
        const Index t = ends[static_cast<std::size_t>(s)] + position;
        if (t < ends[static_cast<std::size_t>(s) + 1]) rows.push_back(t);
      }
      for (Index e = 0; e < kExperts; ++e) {
        std::vector<double> share, mixed(kWidth), emit;
        double total = 0;
        for (const Index t : rows) {
          double sum_over_experts = 0, own = 0;
          for (Index i = 0; i < kExperts; ++i) {
            double logit = 0;
            for (Index j = 0; j < kWidth; ++j) {
              logit += w[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)] *
                       x[static_cast<std::size_t>(t * kWidth + j)];
            }
            sum_over_experts += std::exp(logit);
            if (i == e) own = std::exp(logit);
          }
          share.push_back(own);
          emit.push_back(own / sum_over_experts);
          total += own;
        }
        for (std::size_t i = 0; i < rows.size(); ++i) {
          share[i] /= total;
          for (std::size_t j = 0; j < kWidth; ++j) {
            mixed[j] += share[i] * x[static_cast<std::size_t>(rows[i] * kWidth) + j];
          }
        }
        if (rows.empty()) continue;
        const std::vector<double> z = expert(layer, e, mixed);
        for (std::size_t i = 0; i < rows.size(); ++i) {
          for (std::size_t j = 0; j < kWidth; ++j) {
            y[static_cast<std::size_t>(rows[i] * kWidth) + j] += (shares ? share[i] : emit[i]) * z[j];
          }
        }
      }
    }
  }
  return y;
}

}  // namespace

TEST_CASE("Mixture of Tokens is the published formula", "[router][smoke]") {
  const bool shares = GENERATE(true, false);
  const std::vector<Index> ends{0, 3, 5, 9, 9, 12};
  const std::vector<double> x = normal_rows(12, kWidth, 3);
  check_close(forward_rows(make(2, shares), x, ends), plain(make(2, shares), x, ends, 2, shares));
  check_close(forward_rows(make(32, shares), x, ends), plain(make(32, shares), x, ends, 32, shares));
}

TEST_CASE("a group of one: every expert reads every row, with weight 1", "[router]") {
  const Layer layer = make(1);
  const std::vector<double> x = normal_rows(4, kWidth, 4);
  std::vector<double> expected;
  for (std::size_t t = 0; t < 4; ++t) {
    const std::vector<double> row(x.begin() + static_cast<Index>(t) * kWidth,
                                  x.begin() + static_cast<Index>(t + 1) * kWidth);
    std::vector<double> sum(kWidth);
    for (Index e = 0; e < kExperts; ++e) {
      const std::vector<double> z = expert(layer, e, row);
      for (std::size_t j = 0; j < kWidth; ++j) sum[j] += z[j];
    }
    expected.insert(expected.end(), sum.begin(), sum.end());
  }
  check_close(forward_rows(layer, x, {0, 2, 4}), expected);
}

TEST_CASE("Mixture of Tokens keeps the laws of layers", "[router]") {
  const auto laws = [](bool shares) {
    return [shares] {
      return Layer(moe::mixture_of_tokens<double>(
                       {.width = kWidth, .experts = kExperts, .group = 2, .shares = shares}),
                   Bank({.experts = kExperts, .width = kWidth, .hidden = 3}));
    };
  };
  test::check_layer("MixtureOfTokens", laws(true));
  test::check_layer("MixtureOfTokens, own weights", laws(false));
}

TEST_CASE("Mixture of Tokens is causal, and sees other sequences", "[router]") {
  const Layer layer = make(2);
  std::vector<double> x = normal_rows(6, kWidth, 5);
  const std::vector<Index> ends{0, 3, 6};
  const std::vector<double> before = forward_rows(layer, x, ends);
  x[2 * kWidth] += 1;  // the last row of the first sequence
  const std::vector<double> after = forward_rows(layer, x, ends);
  for (std::size_t t = 0; t < 6; ++t) {
    CAPTURE(t);
    CHECK((before[t * kWidth] == after[t * kWidth]) == (t != 2 && t != 5));
  }
  STATIC_REQUIRE(Layer::coupling(false) == moe::Coupling::per_batch);
}

TEST_CASE("temperature to 0: every expert reads the best row of its group", "[router]") {
  const Layer layer = make(2);
  const std::vector<double> x = normal_rows(2, kWidth, 6);
  moe::LayerInput<double> in(moe::ConstMatrixView<double>(x.data(), 2, kWidth));
  in.segments = moe::Segments::uniform(1);
  in.options.temperature = 1e-5;
  std::vector<double> y(x.size());
  moe::LayerOutput<double> out(moe::MatrixView<double>(y.data(), 2, kWidth));
  moe::Workspace workspace;
  auto tape = layer.make_tape();
  layer.forward_train(in, out, tape, workspace);
  const auto& table = tape.table();
  for (Index s = 0; s < kExperts; ++s) {
    const double* const d = table.dispatch_row(table.dispatch, 0, s);
    CHECK(d[0] + d[1] == 1);
    CHECK(d[0] * d[1] == 0);
  }
}

TEST_CASE("Mixture of Tokens refuses groups of nobody", "[router]") {
  CHECK(test::message_of<moe::config_error>([] {
          moe::mixture_of_tokens<double>({.width = 4, .experts = 2, .group = 0});
        }) == "moe: group size: expected a value in [1, 2147483647], got 0");
}
