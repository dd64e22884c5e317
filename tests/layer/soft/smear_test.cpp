#include "moe/layer/soft/smear.hpp"

#include <cmath>
#include <limits>

#include "layer/soft/plain_merging.hpp"
#include "moe/core/random.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/layer_laws.hpp"
#include "support/same_bits.hpp"

using moe::Index;
using test::Values;

namespace {

constexpr Index kWidth = 5, kHidden = 7, kExperts = 4;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
const Index kEnds[] = {0, 3, 3, 8, 9};
const bool kValid[] = {true, false, true, true, true, true, false, true, true};

moe::Smear<moe::Mlp<moe::Silu, double>> make(double dropout = 0, Index experts = kExperts) {
  auto layer = moe::smear<double, moe::Silu>(
      {.width = kWidth, .hidden = kHidden, .experts = experts, .bias = true, .dropout = dropout});
  test::draw_parameters(layer, 3);
  return layer;
}
double silu(double x) {
  return x / (1 + std::exp(-x));
}

moe::LayerInput<double> input(const Values& x, bool padding = true) {
  moe::LayerInput<double> in(test::view(x, kWidth));
  in.segments = moe::Segments(kEnds);
  if (padding) in.valid = kValid;
  return in;
}

/// softmax(W LN(mean)) of rows [begin, end) that take part.
Values plain_mixture(std::map<std::string, Values>& all, const Values& x, Index begin, Index end,
                     bool padding) {
  Values mean(kWidth, 0);
  double rows = 0, centre = 0, squares = 0, sum = 0;
  for (Index t = begin; t < end; ++t) {
    if (padding && !kValid[t]) continue;
    ++rows;
    for (std::size_t j = 0; j < kWidth; ++j) mean[j] += x[static_cast<std::size_t>(t * kWidth) + j];
  }
  for (double& v : mean) v /= rows, centre += v / kWidth;
  for (const double v : mean) squares += (v - centre) * (v - centre) / kWidth;
  Values p(kExperts, 0);
  for (std::size_t e = 0; e < kExperts; ++e) {
    for (std::size_t j = 0; j < kWidth; ++j) {
      const double normed =
          (mean[j] - centre) / std::sqrt(squares + 1e-5) * all["norm.scale"][j] + all["norm.shift"][j];
      p[e] += all["gate.weight"][e * kWidth + j] * normed;
    }
    p[e] = std::exp(p[e]);
    sum += p[e];
  }
  for (double& v : p) v /= sum;
  return p;
}

}  // namespace

TEST_CASE("SMEAR: laws of layers", "[layer]") {
  test::check_layer(
      "smear", [] { return make(); }, [] { return make(0, 3); });
  test::LayerCall call;
  call.step = 1e-5;
  test::check_layer(
      "smear with expert dropout", [] { return make(0.4); }, call);
}

TEST_CASE("SMEAR is the expert of the mixture, by plain loops; padding is out of the mean", "[layer]") {
  const auto layer = make();
  auto all = test::layer_parameters(layer);
  const Values x = test::random_rows(9, kWidth, 1);
  for (const bool padding : {false, true}) {
    const Values y = test::run_layer(layer, input(x, padding));
    Values want;
    for (std::size_t s = 0; s + 1 < std::size(kEnds); ++s) {
      if (kEnds[s] == kEnds[s + 1]) continue;
      const Values p = plain_mixture(all, x, kEnds[s], kEnds[s + 1], padding);
      for (Index t = kEnds[s]; t < kEnds[s + 1]; ++t) {
        Values row(kWidth, 0);
        if (!padding || kValid[t]) {
          row = test::plain_merged_row(all, p, 1, kExperts, x.data() + t * kWidth, kWidth, kHidden, silu);
        }
        want.insert(want.end(), row.begin(), row.end());
      }
    }
    CHECK(test::distance(y, want) <= 1e-13);
  }
}

TEST_CASE("a mixture of one expert has that expert's bits", "[layer]") {
  const auto layer = make();
  const Values x = test::random_rows(9, kWidth, 2);
  auto in = input(x, false);
  for (std::size_t e = 0; e < kExperts; ++e) {
    Values mask(kExperts, -INFINITY);
    mask[e] = 0;
    in.logit_mask = test::view(mask, kExperts);
    const Values y = test::run_layer(layer, in);
    Values want(9 * kWidth);  // the bank's own forward, all rows to expert e
    moe::Arena measuring;
    layer.experts().measure(measuring, 9, 1);
    moe::Workspace memory;
    moe::Arena arena = memory.arena(measuring.bytes());
    std::vector<const double*> row, result(9);
    for (Index t = 0; t < 9; ++t) row.push_back(x.data() + t * kWidth);
    const std::int32_t token[9] = {};
    Index offsets[kExperts + 1] = {};
    for (std::size_t i = e + 1; i <= kExperts; ++i) offsets[i] = 9;
    moe::SerialExecutor serial;
    layer.experts().forward(moe::RowBatch<double>{row.data(), token, offsets, kExperts},
                            moe::RowSink<double>{want.data(), kWidth, result.data()}, arena, serial);
    CHECK(test::same_bits(y, want));
  }
}

TEST_CASE("equal experts: the mixture does not matter", "[layer]") {
  auto layer = make();
  Values first;
  layer.visit_parameters([&](const auto& p) {
    const std::string name = p.name;
    if (name.find("experts.") != 0) return;
    for (Index i = 0; i < p.value.size(); ++i) {
      double& v = p.value(i / p.value.cols, i % p.value.cols);
      v = 0.1 * static_cast<double>((i * 7 + static_cast<Index>(name.size()) + name.back()) % 11 - 5);
    }
  });
  const Values x = test::random_rows(9, kWidth, 4);
  auto in = input(x);
  const Values y = test::run_layer(layer, in);
  for (const double temperature : {0.1, 10.0}) {
    in.options.temperature = temperature;
    CHECK(test::distance(test::run_layer(layer, in), y) <= 1e-14);
  }
}

TEST_CASE("where experts differ linearly, merging parameters is mixing results; else it is not", "[layer]") {
  for (const bool linear : {true, false}) {
    auto layer = make();
    auto all = test::layer_parameters(layer);
    // The same first layer for all: then a result is linear in what differs.
    layer.visit_parameters([&](const auto& p) {
      const std::string name = p.name;
      const auto at = name.find("fc1");
      if (!linear || at == std::string::npos) return;
      const Values& own = all["experts.0." + name.substr(at)];
      for (Index i = 0; i < p.value.size(); ++i) {
        p.value(i / p.value.cols, i % p.value.cols) = own[static_cast<std::size_t>(i)];
      }
    });
    const Values x = test::random_rows(9, kWidth, 5);
    auto in = input(x);
    auto tape = layer.make_tape();
    const Values y = test::train_layer(layer, in, tape);
    Values mixed(y.size(), 0);
    for (std::size_t e = 0; e < kExperts; ++e) {
      Values mask(kExperts, -INFINITY);
      mask[e] = 0;
      in.logit_mask = test::view(mask, kExperts);
      const Values own = test::run_layer(layer, in);
      for (std::size_t s = 0; s + 1 < std::size(kEnds); ++s) {
        for (Index i = kEnds[s] * kWidth; i < kEnds[s + 1] * kWidth; ++i) {
          mixed[static_cast<std::size_t>(i)] +=
              tape.mixtures()(static_cast<Index>(s), static_cast<Index>(e)) *
              own[static_cast<std::size_t>(i)];
        }
      }
    }
    CHECK((test::distance(y, mixed) <= 1e-13) == linear);
    CHECK((linear || test::distance(y, mixed) > 1e-3));
  }
}

TEST_CASE("expert dropout leaves whole experts out in training and renormalises", "[layer]") {
  const auto layer = make(0.5), whole = make();
  const Values x = test::random_rows(9, kWidth, 6);
  auto in = input(x);
  auto tape = layer.make_tape(), undropped = whole.make_tape();
  moe::DrawCounter draws(11);
  in.draws = &draws;
  test::train_layer(whole, in, undropped);
  Index dropped = 0, all_kept = 0;
  for (int call = 0; call < 40; ++call) {
    test::train_layer(layer, in, tape);
    for (const Index s : {Index{0}, Index{2}, Index{3}}) {
      double sum = 0, mass = 0;
      Index own = 0;
      for (Index e = 0; e < kExperts; ++e) {
        const double p = tape.mixtures()(s, e);
        sum += p, own += p == 0;
        if (p > 0) mass += undropped.mixtures()(s, e);
      }
      CHECK(std::fabs(sum - 1) <= 1e-15);
      for (Index e = 0; e < kExperts; ++e) {
        const double p = tape.mixtures()(s, e);
        if (p > 0) CHECK(std::fabs(p * mass - undropped.mixtures()(s, e)) <= 1e-15);
      }
      dropped += own, all_kept += own == 0;
    }
  }
  // 120 mixtures of 4 experts, each left out with probability 1/2, but not all: 480 (7/15) = 224, sd < 11.
  CHECK(dropped > 180);
  CHECK(dropped < 270);
  CHECK(all_kept > 0);
  in.draws = nullptr;
  CHECK(test::same_bits(test::run_layer(layer, in), test::run_layer(whole, in)));
  CHECK_THROWS_AS(test::train_layer(layer, in, tape), moe::config_error);
  auto trained = make(0.5);
  CHECK(test::gradient_error(trained, in, 11) <= 1e-8);
}

TEST_CASE("SMEAR is not causal: a later row moves an earlier one", "[layer]") {
  const auto layer = make();
  Values x = test::random_rows(9, kWidth, 7);
  const Values before = test::run_layer(layer, input(x));
  x[7 * kWidth] += 1;
  const Values after = test::run_layer(layer, input(x));
  CHECK(before[3 * kWidth] != after[3 * kWidth]);  // row 3, of the segment [3, 8)
  CHECK(before[0] == after[0]);
}

TEST_CASE("a row that is not finite is refused, or isolated: it is in no mean", "[layer]") {
  const Values x = test::random_rows(9, kWidth, 8);
  Values spoiled = x;
  spoiled[4 * kWidth + 2] = kNan;
  CHECK(test::message_of<moe::numeric_error>([&] { test::run_layer(make(), input(spoiled)); }) ==
        "moe: logits: expected finite values or -inf (masked), got nan for token 4, expert 0; "
        "NonFinite::isolate_row confines it to its row");
  auto layer = moe::smear<double, moe::Silu>({.width = kWidth,
                                              .hidden = kHidden,
                                              .experts = kExperts,
                                              .bias = true,
                                              .dropout = 0,
                                              .non_finite = moe::NonFinite::isolate_row});
  test::draw_parameters(layer, 3);
  moe::RouteStats stats;
  const Values y = test::run_layer(layer, input(spoiled), &stats);
  bool valid[9];
  for (std::size_t t = 0; t < 9; ++t) valid[t] = kValid[t] && t != 4;
  auto without = input(x);
  without.valid = valid;
  Values want = test::run_layer(layer, without);
  for (std::size_t j = 0; j < kWidth; ++j) {
    CHECK(std::isnan(y[4 * kWidth + j]));
    want[4 * kWidth + j] = y[4 * kWidth + j];
  }
  CHECK(test::same_bits(y, want));
  CHECK(stats.spoiled == 1);
  CHECK(stats.tokens == 6);
  double mass = 0;
  for (const double m : stats.gate_mass) mass += m;
  CHECK(std::fabs(mass - 6) <= 1e-14);
  for (const Index rows : stats.load) CHECK(rows == 6);
  // Its gradient is that of the call without it.
  CHECK(test::gradient_error(layer, input(spoiled), 1) <= 1e-8);
}

TEST_CASE("SMEAR refuses what it cannot obey", "[layer]") {
  const auto message = [](const moe::SmearOptions& o) {
    return test::message_of<moe::config_error>([&] { moe::smear<double>(o); });
  };
  CHECK(message({.width = 4, .hidden = 4, .experts = 2, .dropout = 1}) ==
        "moe: expert dropout: expected a rate in [0, 1), got 1");
  CHECK(message({.width = 4, .hidden = 4, .experts = 2, .dropout = kNan}) ==
        "moe: expert dropout: expected a rate in [0, 1), got nan");
  CHECK(message({.width = 4, .hidden = 4, .experts = 2, .norm_eps = -1}) ==
        "moe: norm eps: expected a finite value >= 0, got -1");
  CHECK(message({.width = 4, .hidden = 0, .experts = 2}) != "nothing thrown");
  const auto layer = make();
  const Values x = test::random_rows(9, kWidth, 9);
  const auto call = [&](auto change) {
    auto in = input(x);
    change(in);
    return test::message_of<moe::config_error>([&] { test::run_layer(layer, in); });
  };
  CHECK(call([](auto& in) { in.options.experts_per_token = 2; }) ==
        "moe: experts per token: expected none for a mixture of all experts, which cannot obey it, got 2");
  CHECK(call([](auto& in) { in.options.threshold = 0.5; }) ==
        "moe: threshold: expected none for a mixture of all experts, which cannot obey it, got 0.5");
  CHECK(call([](auto& in) { in.segments = {}; }).find("moe: segments: expected one segment") == 0);
  const Values mask(3, 0.0);
  auto in = input(x);
  in.logit_mask = test::view(mask, 3);
  CHECK(test::message_of<moe::shape_error>([&] { test::run_layer(layer, in); }) ==
        "moe: logit_mask: expected 4 columns, got 3");
}
