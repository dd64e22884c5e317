#include "moe/layer/quantise.hpp"

#include <cmath>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "moe/core/type_list.hpp"
#include "moe/expert/bank/whole_results.hpp"
#include "moe/layer/describe.hpp"
#include "moe/layer/frame/output_bias.hpp"
#include "moe/layer/probe/probing_layer.hpp"
#include "moe/layer/soft/home_soft.hpp"
#include "moe/layer/soft/soft_layer.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "moe/router/kind/response.hpp"
#include "moe/router/named/top_k.hpp"
#include "moe/router/soft/soft_moe.hpp"
#include "moe/storage/list.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::Index;
constexpr Index kWidth = 20, kExperts = 4, kTokens = 9;

template <class Storage>
using Bank = moe::Glu<moe::Silu, Storage>;
using Router = moe::SoftmaxTopK<float>;

template <class Storage>
using Layer = moe::MoeLayer<Router, moe::Composite<Bank<Storage>, moe::ZeroComputation<float>>,
                            moe::FixedCapacity, moe::SharedExperts<Bank<Storage>>, moe::OutputBias<float>>;

template <class To>
Bank<To> loaded(const Bank<float>& exact) {
  Bank<To> bank({.experts = exact.experts(), .width = exact.width(), .hidden = exact.hidden()});
  const Index f = exact.hidden();
  std::vector<float> gate(static_cast<std::size_t>(f * kWidth)), up(gate), down(gate);
  for (Index e = 0; e < exact.experts(); ++e) {
    exact.unpack(e, {gate.data(), f, kWidth}, {up.data(), f, kWidth}, {down.data(), kWidth, f});
    bank.load(e, {gate.data(), f, kWidth}, {up.data(), f, kWidth}, {down.data(), kWidth, f});
  }
  return bank;
}

Bank<float> bank(Index experts, std::uint64_t seed) {
  Bank<float> exact({.experts = experts, .width = kWidth, .hidden = 33});
  exact.initialise(seed);
  return exact;
}

/// The same numbers everywhere; its experts' weights stored as To.
template <class To>
Layer<To> by_hand() {
  Router router = moe::softmax_top_k<float>({.width = kWidth, .experts = kExperts + 1, .k = 2});
  router.scorer().initialise(1);
  moe::SharedExperts<Bank<To>> shared(loaded<To>(bank(2, 3)), true);
  moe::OutputBias<float> frame(kWidth);
  const auto fill = [](const moe::Parameter<float>& p) {
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) p.value(o, i) = 0.1f * static_cast<float>(o + i);
    }
  };
  auto fill_gate = [&](const moe::Parameter<float>& p) {
    if (std::string_view(p.name) == "shared_expert_gate.weight") fill(p);
  };
  shared.visit_parameters(nullptr, fill_gate);
  frame.visit_parameters(nullptr, fill);
  return {std::move(router),
          moe::Composite(loaded<To>(bank(kExperts, 2)),
                         moe::ZeroComputation<float>({.width = kWidth, .copy = 1})),
          moe::FixedCapacity({.tokens_per_expert = 3}), std::move(shared), std::move(frame)};
}

template <class L>
std::vector<float> results(const L& layer) {
  std::vector<float> x(static_cast<std::size_t>(kTokens * kWidth)), y(x);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>((i * 7919) % 101) / 50 - 1;
  moe::LayerOutput<float> out(moe::MatrixView<float>(y.data(), kTokens, kWidth));
  moe::Workspace workspace;
  moe::LayerInput<float> in(moe::ConstMatrixView<float>(x.data(), kTokens, kWidth));
  in.mode = moe::Mode::training;
  layer.forward(in, out, workspace);
  return y;
}

}  // namespace

TEST_CASE("a quantised layer is the layer built by hand of rounded experts, bit for bit", "[layer]") {
  const Layer<float> exact = by_hand<float>();
  moe::for_each_type(moe::Storages{}, [&]<class To>(std::type_identity<To>) {
    const auto rounded = moe::quantise<To>(exact);
    static_assert(std::is_same_v<decltype(rounded), const Layer<To>>);
    const auto want = by_hand<To>();
    CHECK(test::same_bits(results(rounded), results(want)));
    CHECK(moe::describe(rounded) == moe::describe(want));
    CHECK(test::same_bits(results(rounded), results(exact)) == std::is_same_v<To, float>);
    // And back: the numbers that the kernels multiplied with, which round to themselves.
    CHECK(test::same_bits(results(moe::quantise<To>(moe::quantise<float>(rounded))), results(want)));
  });
}

TEST_CASE("quantise takes layers without shared experts, isolated ones, and routers that live elsewhere",
          "[layer]") {
  Router router = moe::softmax_top_k<float>({.width = kWidth, .experts = kExperts, .k = 2});
  router.scorer().initialise(1);
  moe::Mlp<moe::Relu> experts({.experts = kExperts, .width = kWidth, .hidden = 8});
  experts.initialise(5);
  const moe::MoeLayer<Router&, moe::Mlp<moe::Relu>> layer(router, experts);
  const moe::MoeLayer own(router, moe::quantise<moe::BFloat16>(experts));
  const std::vector<float> want = results(own);
  CHECK(test::same_bits(results(moe::quantise<moe::BFloat16>(layer)), want));
  const moe::IsolatedLayer isolated(moe::MoeLayer(router, std::move(experts)));
  const auto rounded = moe::quantise<moe::BFloat16>(isolated);
  static_assert(
      std::is_same_v<decltype(rounded), const moe::IsolatedLayer<std::remove_const_t<decltype(own)>>>);
  CHECK(test::same_bits(results(rounded), want));
}

TEST_CASE("quantise of a layer names what it cannot round, in shared experts too", "[layer]") {
  Layer<float> layer = by_hand<float>();
  layer.visit_parameters([](const moe::Parameter<float>& p) {
    if (std::string_view(p.name) == "shared_experts.1.down_proj.weight") p.value(2, 1) = INFINITY;
  });
  const std::string text =
      test::message_of<moe::numeric_error>([&] { moe::quantise<moe::Int8Groups<>>(layer); });
  CHECK(text.find("down") != std::string::npos);
  CHECK(text.find("row 2, column 1") != std::string::npos);
}

TEST_CASE("quantise takes soft layers of one level and of two, and layers that ask their experts",
          "[layer]") {
  using To = moe::Int8Groups<>;
  const auto check = [](const auto& exact, const auto& want) {
    const auto rounded = moe::quantise<To>(exact);
    static_assert(std::is_same_v<decltype(rounded), std::remove_reference_t<decltype(want)>>);
    CHECK(test::same_bits(results(rounded), results(want)));
    CHECK_FALSE(test::same_bits(results(rounded), results(exact)));
  };
  const Bank<float> first = bank(kExperts, 2), second = bank(3, 3);
  auto router = moe::soft_moe<float>({.width = kWidth, .experts = kExperts, .slots = 2});
  router.scorer().initialise(1);
  const moe::SharedExperts<Bank<float>> shared(bank(1, 4));
  const moe::OutputBias<float> frame(kWidth);
  check(moe::SoftLayer(router, first, shared, frame),
        moe::SoftLayer(router, loaded<To>(first), moe::SharedExperts(loaded<To>(bank(1, 4))), frame));

  const auto home = [](auto level, auto next) {
    auto layer =
        moe::home_soft({.width = kWidth, .group = 3, .experts = kExperts, .slots = 1, .second_experts = 3},
                       std::move(level), std::move(next));
    Index n = 0;
    layer.visit_parameters([&](const moe::Parameter<float>& p) {
      if (std::string_view(p.name).find("experts.") != std::string_view::npos) return;
      for (Index o = 0; o < p.value.rows; ++o) {
        for (Index i = 0; i < p.value.cols; ++i) p.value(o, i) = static_cast<float>(++n % 13) / 13;
      }
    });
    return layer;
  };
  check(home(first, second), home(loaded<To>(first), loaded<To>(second)));

  moe::ResponseRouter asking(moe::softmax_top_k<float>({.width = kExperts, .experts = kExperts, .k = 2}));
  asking.inner().scorer().initialise(1);
  const auto probing = [&](auto experts) {
    return moe::ProbingLayer(asking, moe::WholeResults(std::move(experts), moe::LengthResponse{}));
  };
  check(probing(first), probing(loaded<To>(first)));
}
