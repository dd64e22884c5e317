#include "moe/depth/shared_parts.hpp"

#include <string>
#include <utility>
#include <vector>

#include "moe/expert/bank/mlp.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/top_k.hpp"
#include "moe/train/sgd.hpp"
#include "moe/train/trained_layer.hpp"
#include "support/catch.hpp"
#include "support/depth_calls.hpp"

namespace {

using moe::Index;
using test::Values;
using Bank = moe::Mlp<moe::Silu, double>;
using Router = moe::SoftmaxTopK<double>;

constexpr Index kTokens = 5, kWidth = 4, kExperts = 3;

}  // namespace

TEST_CASE("layers that share router and bank: one gradient of each, a step moves them once", "[depth]") {
  using Layer = moe::MoeLayer<Router&, Bank&>;
  Router router = moe::softmax_top_k<double>({.width = kWidth, .experts = kExperts, .k = 2});
  Bank bank({.experts = kExperts, .width = kWidth, .hidden = 3});
  std::vector<Layer> layers;
  for (int i = 0; i < 3; ++i) layers.emplace_back(router, bank);
  moe::SharedParts parts(std::move(layers));
  test::draw_parameters(parts, 3);
  auto all = parts.make_gradients();

  // What the layers add is the sum of what each adds alone.
  Layer alone(router, bank);
  Values want;
  moe::Workspace workspace;
  for (Index i = 3; i-- > 0;) {
    const Values x = test::normal_rows(static_cast<std::uint64_t>(10 + i), kTokens, kWidth);
    const Values dy = test::normal_rows(static_cast<std::uint64_t>(20 + i), kTokens, kWidth);
    Values y(x.size()), dx(x.size());
    moe::LayerOutput<double> out(test::rows_of(y, kWidth));
    auto tape = parts[i].make_tape();
    parts[i].forward_train(test::rows_of(x, kWidth), out, tape, workspace);
    parts[i].backward(tape, parts.gradients_of(i, test::rows_of(dy, kWidth), test::rows_of(dx, kWidth), all),
                      workspace);
    test::Trained own(alone, test::rows_of(x, kWidth), dy, 1);
    CHECK(own.dx == dx);
    const Values gradients = test::flat_gradients(alone, own.gradients);
    want.resize(gradients.size());
    for (std::size_t j = 0; j < want.size(); ++j) want[j] += gradients[j];
  }
  const Values sum = test::flat_gradients(parts, all);
  REQUIRE(sum.size() == want.size());
  for (std::size_t j = 0; j < want.size(); ++j)
    CHECK(std::abs(sum[j] - want[j]) <= 1e-14 * (1 + std::abs(want[j])));

  Values before, after;
  const auto values = [&](Values& to) {
    parts.visit_storage(all, [&](const char* name, double* v, double*, Index n) {
      CHECK(std::string(name).starts_with("layer0."));
      to.insert(to.end(), v, v + n);
    });
  };
  values(before);
  moe::Sgd<double> optimiser;
  optimiser.step(moe::TrainedLayer(parts, all), 0.5);
  values(after);
  for (std::size_t j = 0; j < want.size(); ++j) CHECK(after[j] == before[j] - 0.5 * sum[j]);

  CHECK_THROWS_AS(parts[3], moe::config_error);
  CHECK_THROWS_AS(moe::SharedParts(std::vector<Layer>{}), moe::config_error);
}
