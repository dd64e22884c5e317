#include "moe/depth/omni_router.hpp"

#include <string>
#include <utility>
#include <vector>

#include "moe/depth/chain.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/router/named/switch.hpp"
#include "support/catch.hpp"
#include "support/depth_calls.hpp"
#include "support/layer_laws.hpp"

namespace {

using moe::Index;
using test::Values;
using Bank = moe::Mlp<moe::Silu, double>;
using Router = moe::SwitchRouter<double>;
using Layer = moe::MoeLayer<Router&, Bank>;

constexpr Index kTokens = 6, kWidth = 4, kExperts = 3;

Router router() {
  return moe::switch_router<double>({.width = kWidth, .experts = kExperts, .jitter = 0, .load_balance = 0.1});
}
std::vector<Bank> banks(Index count, Index width = kWidth) {
  std::vector<Bank> made;
  for (Index i = 0; i < count; ++i)
    made.emplace_back(moe::TwoLayerOptions{.experts = kExperts, .width = width, .hidden = 3});
  return made;
}

}  // namespace

TEST_CASE("Omni-router: one router whose gradient is the sum over the layers, which see rows of their own",
          "[depth][smoke]") {
  Router one = router();
  auto omni = moe::omni_router(one, banks(3));
  test::draw_parameters(omni, 5);
  CHECK(&omni[0].router() == &one);
  CHECK(&omni[2].router() == &one);

  // A model of three layers with a residual: backwards from the last to the first.
  const Values dy = test::normal_rows(7, kTokens, kWidth);
  std::vector<Values> h{test::normal_rows(6, kTokens, kWidth)};
  std::vector<Layer::Tape> tapes(3);
  moe::Workspace workspace;
  for (Index i = 0; i < 3; ++i) {
    Values y(dy.size());
    moe::LayerOutput<double> out(test::rows_of(y, kWidth));
    omni[i].forward_train(test::rows_of(h.back(), kWidth), out, tapes[static_cast<std::size_t>(i)],
                          workspace);
    for (std::size_t j = 0; j < y.size(); ++j) y[j] += h.back()[j];
    h.push_back(y);
  }
  auto all = omni.make_gradients();
  auto summed = moe::impl::make_gradients_of(one);
  Values dh = dy, own_dh = dy, dx(dy.size());
  for (Index i = 3; i-- > 0;) {
    const auto taped = static_cast<std::size_t>(i);
    omni[i].backward(
        tapes[taped],
        omni.gradients_of(i, test::rows_of(std::as_const(dh), kWidth), test::rows_of(dx, kWidth), all),
        workspace);
    for (std::size_t j = 0; j < dx.size(); ++j) dh[j] += dx[j];
    Layer::LayerGradients to(test::rows_of(std::as_const(own_dh), kWidth), test::rows_of(dx, kWidth));
    to.router = &summed;
    omni[i].backward(tapes[taped], to, workspace);
    for (std::size_t j = 0; j < dx.size(); ++j) own_dh[j] += dx[j];
  }
  CHECK(test::part_gradients(one, all.layers[0].router) == test::part_gradients(one, summed));

  // The same as a chain.
  moe::Chain chain(omni.layers(), moe::Residual::inner);
  test::Trained trained(chain, test::rows_of(h[0], kWidth), dy, 1);
  CHECK(trained.y == h[3]);
  CHECK(trained.dx == dh);
  CHECK(test::flat_gradients(chain, trained.gradients) == test::flat_gradients(omni, all));
  std::vector<std::string> names;
  omni.visit_parameters([&](const auto& p) { names.emplace_back(p.name); });
  CHECK(names.front() == "layer0.gate.weight");
  CHECK(names.size() == 1 + 3 * 2 * kExperts);
}

TEST_CASE("a chain of layers over one router keeps the laws of layers", "[depth]") {
  static Router one = router();
  test::check_layer(
      "omni", [] { return moe::Chain(moe::omni_router(one, banks(3)).layers(), moe::Residual::inner); });
}

TEST_CASE("Omni-router refuses layers of another width, and no layers", "[depth]") {
  Router one = router();
  CHECK_THROWS_AS(moe::omni_router(one, banks(2, kWidth + 1)), moe::config_error);
  CHECK_THROWS_AS(moe::omni_router(one, banks(0)), moe::config_error);
}
