#include "moe/layer/frame/chain.hpp"

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "expert/bank_fixture.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/frame/latent.hpp"
#include "moe/layer/frame/output_bias.hpp"
#include "moe/layer/frame/scaled.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/kind/every.hpp"
#include "support/errors.hpp"

namespace {

using moe::Index;
using View = moe::MatrixView<double>;
using ConstView = moe::ConstMatrixView<double>;
using Bank = moe::Mlp<moe::Silu, double>;
using Bias = moe::OutputBias<double>;
using Latent = moe::LatentFrame<double>;
using Scaled = moe::ScaledFrame<double>;

constexpr Index kTokens = 5, kWidth = 6, kLatent = 4, kExperts = 2;

template <class F>
using Layer = moe::MoeLayer<moe::EveryExpert<double>, Bank, moe::Dropless, moe::NoShared, F>;

template <class F>
Layer<F> make(F frame, Index inner) {
  Layer<F> layer(moe::EveryExpert<double>(kExperts, kWidth), Bank({kExperts, inner, 5}), {}, {},
                 std::move(frame));
  std::mt19937_64 random(2);
  std::uniform_real_distribution<double> uniform(-1, 1);
  layer.visit_parameters([&](const moe::Parameter<double>& p) {
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) p.value(o, i) = uniform(random);
    }
  });
  return layer;
}

struct Case {
  std::vector<double> x, dy;
  bool valid[kTokens] = {true, true, false, true, true};
  Case() {
    std::mt19937_64 random(3);
    test::fill_random(x, kTokens * kWidth, random);
    test::fill_random(dy, kTokens * kWidth, random);
  }
  moe::LayerInput<double> input() const {
    moe::LayerInput<double> in(ConstView(x.data(), kTokens, kWidth));
    in.valid = valid;
    return in;
  }
  template <class L>
  std::vector<double> forward(const L& layer) const {
    std::vector<double> y(x.size(), 9);
    std::vector<std::byte> memory(static_cast<std::size_t>(layer.workspace_bytes(kTokens)), std::byte{0xFF});
    moe::Workspace exact{std::span(memory)};
    moe::LayerOutput<double> out(View(y.data(), kTokens, kWidth));
    layer.forward(input(), out, exact);
    return y;
  }
  template <class L>
  double objective(const L& layer) const {
    const std::vector<double> y = forward(layer);
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) sum += dy[i] * y[i];
    return sum;
  }
};

template <class L>
void check_gradients(L& layer) {
  Case c;
  typename L::Tape tape = layer.make_tape();
  std::vector<double> y(c.x.size()), dx(c.x.size(), 9);
  const Index bytes = layer.workspace_bytes(kTokens, moe::Mode::training);
  std::vector<std::byte> memory(static_cast<std::size_t>(bytes), std::byte{0xFF});
  moe::Workspace exact{std::span(memory)};
  moe::LayerOutput<double> out(View(y.data(), kTokens, kWidth));
  layer.forward_train(c.input(), out, tape, exact);
  CHECK(test::same_bits(y, c.forward(layer)));
  typename L::Gradients gradients = layer.make_gradients(), without = layer.make_gradients();
  typename L::LayerGradients back(ConstView(c.dy.data(), kTokens, kWidth), View(dx.data(), kTokens, kWidth),
                                  gradients);
  typename L::LayerGradients no_dx(ConstView(c.dy.data(), kTokens, kWidth), View{}, without);
  layer.backward(tape, back, exact);
  layer.backward(tape, no_dx, exact);
  const double noise = 0x1p-53 * 2048 * kTokens * kWidth;  // factors of some units, some hundred roundings
  const auto f = [&] { return c.objective(layer); };
  Index wrong = 0;
  layer.visit_parameters(gradients, [&](const moe::Parameter<double>& p) {
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) {
        const bool right = test::agrees_with_difference(p.value(o, i), p.gradient(o, i), noise, f);
        if (!right) UNSCOPED_INFO(p.name << " " << o << " " << i);
        wrong += !right;
      }
    }
  });
  for (std::size_t i = 0; i < c.x.size(); ++i) {
    wrong += !test::agrees_with_difference(c.x[i], dx[i], noise, f);
  }
  CHECK(wrong == 0);
  std::vector<double> first, second;
  layer.visit_storage(gradients,
                      [&](const char*, double*, double* g, Index n) { first.insert(first.end(), g, g + n); });
  layer.visit_storage(
      without, [&](const char*, double*, double* g, Index n) { second.insert(second.end(), g, g + n); });
  CHECK(first == second);
}

TEST_CASE("frames chain: latent projections inside an output bias and a row factor", "[layer][smoke]") {
  using Two = moe::FrameChain<Bias, Latent>;
  static_assert(moe::Frame<Two, double>);
  // y of the chain is y of the latent frame alone plus the bias.
  const Case c;
  auto both = make(Two(Bias(kWidth), Latent(kWidth, kLatent)), kLatent);
  auto latent = make(Latent(kWidth, kLatent), kLatent);
  std::vector<double> values;
  both.visit_parameters([&](const moe::Parameter<double>& p) {
    if (std::string(p.name) == "output.bias") {
      for (Index i = 0; i < kWidth; ++i) p.value(i, 0) = static_cast<double>(i + 1);
      return;
    }
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) values.push_back(p.value(o, i));
    }
  });
  std::size_t next = 0;
  latent.visit_parameters([&](const moe::Parameter<double>& p) {
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) p.value(o, i) = values.at(next++);
    }
  });
  REQUIRE(next == values.size());
  const std::vector<double> y = c.forward(both), inner = c.forward(latent);
  for (Index t = 0; t < kTokens; ++t) {
    for (Index j = 0; j < kWidth; ++j) {
      const auto at = static_cast<std::size_t>(t * kWidth + j);
      CHECK(y[at] == (c.valid[t] ? inner[at] + static_cast<double>(j + 1) : 0.0));
    }
  }
}

TEST_CASE("gradients through chained frames agree with central differences", "[layer]") {
  auto bias_latent = make(moe::FrameChain(Bias(kWidth), Latent(kWidth, kLatent)), kLatent);
  check_gradients(bias_latent);
  auto latent_bias = make(moe::FrameChain(Latent(kWidth, kLatent), Bias(kLatent)), kLatent);
  check_gradients(latent_bias);
  auto scaled_bias = make(moe::FrameChain(Scaled(kWidth, 0.5), Bias(kWidth)), kWidth);
  check_gradients(scaled_bias);
  auto latent_scaled = make(moe::FrameChain(Latent(kWidth, kLatent), Scaled(kLatent, 0.5)), kLatent);
  check_gradients(latent_scaled);
  auto two_latent = make(moe::FrameChain(Latent(kWidth, kLatent), Latent(kLatent, 3, {.enabled = true})), 3);
  check_gradients(two_latent);
  auto three = make(
      moe::FrameChain(Bias(kWidth), moe::FrameChain(Scaled(kWidth, 0.5), Latent(kWidth, kLatent))), kLatent);
  check_gradients(three);
}

TEST_CASE("frames with parameters of one name: the inner one's are called otherwise", "[layer][smoke]") {
  const auto names = [](auto frame) {
    std::vector<std::string> all;
    auto list = [&](const moe::Parameter<double>& p) { all.emplace_back(p.name); };
    auto stored = [&](const char* name, double*, double*, Index) { all.emplace_back(name); };
    frame.visit_parameters(nullptr, list);
    frame.visit_storage(nullptr, stored);
    return all;
  };
  using Names = std::vector<std::string>;
  CHECK(names(moe::FrameChain(Bias(kWidth), Bias(kWidth))) ==
        Names{"output.bias", "inner.output.bias", "output.bias", "inner.output.bias"});
  CHECK(names(moe::FrameChain(Bias(kWidth), Scaled(kWidth, 3))) == Names{"output.bias", "output.bias"});
}

TEST_CASE("frames that do not fit each other are refused", "[layer][smoke]") {
  const auto chain = [](Index middle) { return moe::FrameChain(Bias(kWidth), Latent(middle, kLatent)); };
  CHECK_NOTHROW(make(chain(kWidth), kLatent));
  const std::string text = test::message_of<moe::config_error>([&] { make(chain(kWidth - 1), kLatent); });
  CHECK(test::contains(text, "frame chain: expected an inner frame of outer width 6, got 5"));
}

}  // namespace
