#include "moe/layer/soft/soft_layer.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/normed.hpp"
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/frame/latent.hpp"
#include "moe/layer/isolated_layer.hpp"
#include "moe/layer/shared/shared_experts.hpp"
#include "moe/router/soft/soft_moe.hpp"
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
using Layer = moe::SoftLayer<moe::SoftMoeRouter<double>, Bank>;
constexpr Index kWidth = 5;

Layer make(Index experts, Index slots, moe::NonFinite policy = moe::NonFinite::throw_) {
  Layer layer(
      moe::soft_moe<double>({.width = kWidth, .experts = experts, .slots = slots, .non_finite = policy}),
      Bank({.experts = experts, .width = kWidth, .hidden = 3}));
  layer.router().scorer().initialise(1);
  layer.router().scorer().set_scale(3);
  layer.experts().initialise(2);
  return layer;
}

using Matrix = std::vector<std::vector<double>>;

/// Parameters by name, as published: [out, in].
std::map<std::string, Matrix> parameters(const Layer& layer) {
  std::map<std::string, Matrix> all;
  test::visit_layer(layer, [&](const auto& p) {
    Matrix& m = all[p.name];
    for (Index o = 0; o < p.value.rows; ++o) {
      m.emplace_back();
      for (Index i = 0; i < p.value.cols; ++i) m.back().push_back(p.value(o, i));
    }
  });
  return all;
}

double inner(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

std::vector<double> plain_expert(std::map<std::string, Matrix>& w, std::size_t e,
                                 const std::vector<double>& x) {
  const std::string name = "experts." + std::to_string(e);
  std::vector<double> hidden, y;
  for (std::size_t f = 0; f < w[name + ".gate_proj.weight"].size(); ++f) {
    const double gate = inner(w[name + ".gate_proj.weight"][f], x);
    hidden.push_back(gate / (1 + std::exp(-gate)) * inner(w[name + ".up_proj.weight"][f], x));
  }
  for (const auto& row : w[name + ".down_proj.weight"]) y.push_back(inner(row, hidden));
  return y;
}

/// Soft MoE of rows [first, last) of x, from the paper's formula.
void plain_soft_moe(const Layer& layer, const std::vector<double>& x, std::size_t first, std::size_t last,
                    std::vector<double>& y) {
  auto w = parameters(layer);
  const Matrix& phi = w["phi.weight"];
  const std::size_t n = phi.size(), slots = n / static_cast<std::size_t>(layer.experts().experts());
  Matrix row, p;  // exp of the logits
  for (std::size_t t = first; t < last; ++t) {
    row.emplace_back(x.begin() + static_cast<Index>(t) * kWidth,
                     x.begin() + static_cast<Index>(t + 1) * kWidth);
    p.emplace_back();
    for (const auto& direction : phi) {
      const double lengths = std::sqrt(inner(row.back(), row.back()) * inner(direction, direction));
      p.back().push_back(std::exp(w["scale"][0][0] * inner(row.back(), direction) / lengths));
    }
  }
  Matrix z;
  for (std::size_t s = 0; s < n; ++s) {
    double total = 0;
    std::vector<double> slot(kWidth);
    for (std::size_t t = 0; t < row.size(); ++t) {
      total += p[t][s];
      for (std::size_t j = 0; j < kWidth; ++j) slot[j] += p[t][s] * row[t][j];
    }
    for (double& v : slot) v /= total;
    z.push_back(plain_expert(w, s / slots, slot));
  }
  for (std::size_t t = 0; t < row.size(); ++t) {
    double total = 0;
    for (const double v : p[t]) total += v;
    for (std::size_t j = 0; j < kWidth; ++j) {
      double sum = 0;
      for (std::size_t s = 0; s < n; ++s) sum += p[t][s] * z[s][j];
      y[(first + t) * kWidth + j] = sum / total;
    }
  }
}

}  // namespace

TEST_CASE("Soft MoE is the published formula, segment by segment", "[layer][smoke]") {
  const Layer layer = make(3, 2);
  const std::vector<double> x = normal_rows(9, kWidth, 4);
  std::vector<double> expected(x.size());
  plain_soft_moe(layer, x, 0, 4, expected);
  plain_soft_moe(layer, x, 4, 9, expected);
  check_close(forward_rows(layer, x, {0, 4, 4, 9}), expected);
}

TEST_CASE("Soft MoE keeps the laws of layers", "[layer]") {
  const auto laws = [](Index slots) {
    return [slots] {
      return Layer(moe::soft_moe<double>({.width = kWidth, .experts = 3, .slots = slots}),
                   Bank({.experts = 3, .width = kWidth, .hidden = 3, .bias = true}));
    };
  };
  test::check_layer("SoftMoe", laws(2), laws(1));
}

TEST_CASE("a soft layer's frame, shared experts and experts that cost nothing keep the laws", "[layer]") {
  using Free = moe::ZeroComputation<double>;
  test::check_layer("SoftMoe, latent", [] {
    return moe::SoftLayer(moe::soft_moe<double>({.width = kWidth, .experts = 2}),
                          Bank({.experts = 2, .width = 3, .hidden = 3}),
                          moe::SharedExperts<Bank>(Bank({.experts = 1, .width = kWidth, .hidden = 2})),
                          moe::LatentFrame<double>(kWidth, 3));
  });
  test::check_layer("SoftMoe, copies and zeros", [] {
    return moe::SoftLayer(moe::soft_moe<double>({.width = kWidth, .experts = 3}),
                          moe::Composite<Bank, Free>(Bank({.experts = 1, .width = kWidth, .hidden = 3}),
                                                     Free({.width = kWidth, .zero = 1, .copy = 1})));
  });
}

TEST_CASE("a soft layer shows the state of its experts, as every layer does", "[layer]") {
  using Normed = moe::NormedExperts<Bank>;
  moe::SoftLayer<moe::SoftMoeRouter<double>, Normed> layer(
      moe::soft_moe<double>({.width = kWidth, .experts = 2}),
      Normed(Bank({.experts = 2, .width = kWidth, .hidden = 3})));
  Index of_layer = 0, of_experts = 0;
  const auto add_to = [](Index& sum) { return [&sum](const char*, const double*, Index n) { sum += n; }; };
  layer.visit_state(add_to(of_layer));
  auto count = add_to(of_experts);
  std::as_const(layer.experts()).visit_state(count);
  CHECK(of_experts > 0);
  CHECK(of_layer == of_experts);
}

TEST_CASE("normed experts couple the segments of a soft layer in training alone", "[layer]") {
  using Normed = moe::NormedExperts<Bank>;
  using NormedLayer = moe::SoftLayer<moe::SoftMoeRouter<double>, Normed>;
  STATIC_REQUIRE(NormedLayer::coupling(true) == moe::Coupling::per_batch);
  STATIC_REQUIRE(NormedLayer::coupling(false) == moe::Coupling::per_segment);  // as the router says
  NormedLayer soft(moe::soft_moe<double>({.width = kWidth, .experts = 2}),
                   Normed(Bank({.experts = 2, .width = kWidth, .hidden = 3})));
  soft.router().scorer().initialise(1);
  soft.experts().inner().initialise(2);
  const moe::IsolatedLayer<NormedLayer> layer(std::move(soft));
  const std::vector<double> x = normal_rows(7, kWidth, 5), y = forward_rows(layer, x, {0, 3, 7});
  const std::vector<double> second(x.begin() + 3 * kWidth, x.end());
  CHECK(forward_rows(layer, second, {0, 4}) == std::vector<double>(y.begin() + 3 * kWidth, y.end()));
}

TEST_CASE("one slot: all rows of a segment get one result; one row: its slots are the row", "[layer]") {
  const Layer one = make(1, 1);
  const std::vector<double> x = normal_rows(4, kWidth, 5), y = forward_rows(one, x, {0, 4});
  for (std::size_t i = kWidth; i < y.size(); ++i) CHECK(y[i] == y[i - kWidth]);

  // Experts that copy: the row itself comes back, by weights that sum to 1.
  using Copies = moe::ZeroComputation<double>;
  moe::SoftLayer copies(moe::soft_moe<double>({.width = kWidth, .experts = 2, .slots = 3}),
                        Copies({.width = kWidth, .zero = 0, .copy = 2}));
  copies.router().scorer().initialise(3);
  check_close(forward_rows(copies, x, {0, 1, 2, 3, 4}), x);
}

TEST_CASE("a scale that grows makes every slot read its best row", "[layer]") {
  Layer layer = make(2, 2);
  layer.router().scorer().set_scale(1e6);
  const std::vector<double> x = normal_rows(6, kWidth, 6);
  moe::LayerInput<double> in(moe::ConstMatrixView<double>(x.data(), 6, kWidth));
  std::vector<double> y(x.size());
  moe::LayerOutput<double> out(moe::MatrixView<double>(y.data(), 6, kWidth));
  moe::Workspace workspace;
  auto tape = layer.make_tape();
  layer.forward_train(in, out, tape, workspace, test::serial());
  const auto& table = tape.table();
  REQUIRE(table.slots() == 4);
  for (Index s = 0; s < 4; ++s) {
    const double* const d = table.dispatch_row(table.dispatch, 0, s);
    CHECK(std::count(d, d + 6, 0.0) == 5);
    CHECK(*std::max_element(d, d + 6) == 1);
  }
}

TEST_CASE("rows that take no part have none in either softmax", "[layer]") {
  const Layer layer = make(2, 2, moe::NonFinite::isolate_row);
  std::vector<double> x = normal_rows(5, kWidth, 7);
  std::vector<double> others(x.begin(), x.begin() + 2 * kWidth);
  others.insert(others.end(), x.begin() + 4 * kWidth, x.end());
  const std::vector<double> expected = forward_rows(layer, others, {0, 3});
  x[2 * kWidth] = std::numeric_limits<double>::quiet_NaN();
  const bool valid[] = {true, true, true, false, true};
  moe::LayerInput<double> in(moe::ConstMatrixView<double>(x.data(), 5, kWidth));
  in.valid = {valid, 5};
  in.segments = moe::Segments::uniform(5);
  std::vector<double> y(x.size());
  moe::RouteStats stats;
  moe::LayerOutput<double> out(moe::MatrixView<double>(y.data(), 5, kWidth), &stats);
  moe::Workspace workspace;
  layer.forward(in, out, workspace, test::serial());
  for (std::size_t j = 0; j < kWidth; ++j) {
    CHECK(y[j] == expected[j]);
    CHECK(y[4 * kWidth + j] == expected[2 * kWidth + j]);
    CHECK(std::isnan(y[2 * kWidth + j]));
    CHECK(y[3 * kWidth + j] == 0);
  }
  CHECK(stats.tokens == 3);
  CHECK(stats.spoiled == 1);
  CHECK(stats.load[1] == 2);
  CHECK(std::abs(stats.gate_mass[0] + stats.gate_mass[1] - 3) < 1e-14);
}

TEST_CASE("soft layers refuse what they cannot obey, before anything is written", "[layer]") {
  const Layer layer = make(2, 2);
  std::vector<double> x = normal_rows(3, kWidth, 8), y(x.size(), 7);
  const auto call = [&](auto change) {
    moe::LayerInput<double> in(moe::ConstMatrixView<double>(x.data(), 3, kWidth));
    in.segments = moe::Segments::uniform(3);
    moe::LayerOutput<double> out(moe::MatrixView<double>(y.data(), 3, kWidth));
    moe::Workspace workspace;
    change(in, out);
    layer.forward(in, out, workspace, test::serial());
  };
  using In = moe::LayerInput<double>;
  using Out = moe::LayerOutput<double>;
  struct Nobody : moe::Observer<double> {
    void see(const moe::CallView<double>&) override {}
  } observer;
  CHECK(test::message_of<moe::config_error>([&] { call([](In& in, Out&) { in.segments = {}; }); }) ==
        "moe: segments: expected one segment per request, got none; this layer couples tokens, so without "
        "segments "
        "one request could change another's result");
  CHECK(test::message_of<moe::config_error>([&] {
          call([](In& in, Out&) { in.options.experts_per_token = 1; });
        }) == "moe: experts per token: expected none for a soft router, which cannot obey it, got 1");
  CHECK(test::message_of<moe::config_error>([&] {
          call([&](In&, Out& out) { out.observer = &observer; });
        }) == "moe: observer: expected none for a soft layer, which has no pairs to see, got one");
  const std::vector<double> read = x;
  x[kWidth + 1] = std::numeric_limits<double>::infinity();
  CHECK(test::message_of<moe::numeric_error>([&] {
          call([&](In& in, Out&) { in.router_x = moe::ConstMatrixView<double>(read.data(), 3, kWidth); });
        }) == "moe: x: expected finite values in rows that are mixed, got others in row 1");
  CHECK_THROWS_AS(call([](In&, Out&) {}), moe::numeric_error);
  CHECK(y == std::vector<double>(y.size(), 7));
  CHECK(test::message_of<moe::config_error>([] {
          Layer(moe::soft_moe<double>({.width = kWidth, .experts = 2}),
                Bank({.experts = 3, .width = kWidth, .hidden = 2}));
        }) == "moe: layer: expected as many experts in the bank as the router has, 2, got 3");
}

TEST_CASE("a soft layer within segments may serve several users", "[layer]") {
  using Isolated = moe::IsolatedLayer<Layer>;
  const std::vector<double> x = normal_rows(4, kWidth, 9);
  const Isolated layer(make(2, 1));
  CHECK(forward_rows(layer, x, {0, 4}) == forward_rows(make(2, 1), x, {0, 4}));
}
