// Options of a call through an erased layer: obeyed as by a layer that is built with them, or refused.
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "models/fixture.hpp"
#include "moe/expert/bank/any.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/models/any/any_layer.hpp"
#include "moe/plan/capacity/any.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "moe/router/call_options.hpp"
#include "moe/router/named/expert_choice.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace {

using moe::Index;
using moe::models::AnyLayer;

constexpr Index kTokens = 12, kWidth = 8, kExperts = 6;

/// Every parameter a number of its own; those of the router times `scale`.
AnyLayer filled(AnyLayer layer, float scale = 1) {
  Index n = 0;
  layer.visit_parameters([&](const moe::Parameter<float>& p) {
    const float by = std::string(p.name) == "gate.weight" ? scale : 1;
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) {
        p.value(o, i) = by * (static_cast<float>(n++ * 29 % 31) / 16 - 1);
      }
    }
  });
  return layer;
}

moe::models::LayerSpec spec_of(const moe::TokenChoiceOptions& options) {
  moe::models::LayerSpec spec;
  spec.width = kWidth;
  spec.experts = kExperts;
  spec.hidden = 4;
  spec.router = options;
  return spec;
}

AnyLayer layer_of(const moe::TokenChoiceOptions& options, moe::AnyCapacity capacity = moe::Dropless{},
                  float scale = 1) {
  moe::models::LayerSpec spec = spec_of(options);
  spec.capacity = std::move(capacity);
  return filled(
      moe::models::impl::load_any<float>(nullptr, spec, moe::token_choice_router<float>(options), {}), scale);
}
AnyLayer expert_choice_layer(double factor) {
  using Bank = moe::OneBank<moe::OneBank<moe::Glu<moe::Silu>>>;
  Bank bank(moe::OneBank<moe::Glu<moe::Silu>>(
      moe::Glu<moe::Silu>({.experts = kExperts, .width = kWidth, .hidden = 4})));
  auto router = moe::expert_choice<float>({.width = kWidth, .experts = kExperts, .capacity_factor = factor});
  return filled({spec_of({}), moe::MoeLayer(std::move(router), std::move(bank))});
}

moe::TokenChoiceOptions top_k_options(Index k) {
  return {.width = kWidth, .outputs = kExperts, .k = k};
}
moe::TokenChoiceOptions options_of(moe::AnySelection selection) {
  moe::TokenChoiceOptions options = top_k_options(2);
  options.selection = std::move(selection);
  return options;
}

struct Called {
  std::vector<float> y, dx;
  Index pairs = 0;

  /// Forward and backward, on a workspace that is as large as the layer says.
  Called(const AnyLayer& layer, const moe::CallOptions& options) : y(kTokens * kWidth), dx(y.size()) {
    std::vector<float> x, dy(y.size(), 0.5F);
    for (std::size_t i = 0; i < y.size(); ++i) x.push_back(static_cast<float>((i * 37 + 11) % 23) / 8 - 1.4F);
    moe::LayerInput<float> in(moe::ConstMatrixView<float>(x.data(), kTokens, kWidth));
    in.segments = moe::Segments::uniform(kTokens / 2);
    in.options = options;
    const Index bytes = layer.workspace_bytes(moe::CallShape{kTokens, 2, options}, moe::Mode::training);
    std::vector<std::byte> block(static_cast<std::size_t>(bytes));
    moe::Workspace workspace{std::span<std::byte>(block)};
    moe::LayerOutput<float> out(moe::MatrixView<float>(y.data(), kTokens, kWidth));
    AnyLayer::Tape tape = layer.make_tape();
    layer.forward_train(in, out, tape, workspace);
    pairs = tape.plan().slots();
    layer.backward(tape,
                   {.dy = moe::ConstMatrixView<float>(dy.data(), kTokens, kWidth),
                    .dx = moe::MatrixView<float>(dx.data(), kTokens, kWidth)},
                   workspace);
  }
};

/// `asked` with options of the call does what `built` does without, and not what it does itself without.
void check_same(const AnyLayer& asked, const moe::NamedOption& option, const AnyLayer& built) {
  INFO(option.name << " = " << option.value);
  const Called own(asked, {}), got(asked, moe::call_options({option})), want(built, {});
  CHECK(got.pairs == want.pairs);
  CHECK(got.y == want.y);
  CHECK(got.dx == want.dx);
  CHECK(own.y != want.y);
}

}  // namespace

TEST_CASE("an erased layer obeys the options of a call as one that is built with them", "[models]") {
  check_same(layer_of(top_k_options(2)), {"k", "4"}, layer_of(top_k_options(4)));
  check_same(layer_of(top_k_options(4)), {"k", "1"}, layer_of(top_k_options(1)));
  check_same(layer_of(options_of(moe::TopPSelection({.p = 0.4}))), {"p", "0.75"},
             layer_of(options_of(moe::TopPSelection({.p = 0.75}))));
  check_same(layer_of(options_of(moe::ThresholdSelection({.threshold = 0.1}))), {"threshold", "0.25"},
             layer_of(options_of(moe::ThresholdSelection({.threshold = 0.25}))));
  check_same(expert_choice_layer(1), {"capacity_factor", "3"}, expert_choice_layer(3));
  const auto capacity = [](double factor) { return moe::FixedCapacity({.factor = factor}); };
  check_same(layer_of(top_k_options(2), capacity(2)), {"capacity_factor", "0.5"},
             layer_of(top_k_options(2), capacity(0.5)));
}

TEST_CASE("a temperature of two halves the logits of an erased layer", "[models]") {
  const AnyLayer layer = layer_of(top_k_options(3)),
                 halved = layer_of(top_k_options(3), moe::Dropless{}, 0.5F);
  const Called own(layer, {}), got(layer, moe::call_options({{"temperature", "2"}})), want(halved, {});
  CHECK(got.y == want.y);  // powers of two are exact
  CHECK(own.y != want.y);
}

TEST_CASE("an erased layer refuses options of a call that its router cannot obey", "[models]") {
  const AnyLayer layer = layer_of(top_k_options(2));
  const auto refused = [&](const AnyLayer& by, const moe::NamedOption& option) {
    return test::message_of<moe::config_error>([&] { Called(by, moe::call_options({option})); });
  };
  for (const char* const name : {"p", "threshold", "capacity_factor"}) {
    const std::string message = refused(layer, {name, "0.5"});
    CHECK(message.find("expected none for the selection top_k, which cannot obey it, got 0.5") !=
          message.npos);
  }
  CHECK(refused(layer, {"k", "7"}).find("expected K in [1, 6]") != std::string::npos);
  CHECK(refused(expert_choice_layer(2), {"k", "2"}).starts_with("moe: experts per token: "));
  CHECK(refused(expert_choice_layer(2), {"capacity_factor", "7"}).starts_with("moe: capacity factor: "));
}
