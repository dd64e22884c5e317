// What layers of layers have of their layers: shared parts once, frozen layers, names, gradients of another
// shape.
#include "moe/depth/layer_group.hpp"

#include <cmath>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "moe/archive/reader.hpp"
#include "moe/archive/writer.hpp"
#include "moe/depth/chain.hpp"
#include "moe/depth/momentum.hpp"
#include "moe/depth/normed_layer.hpp"
#include "moe/depth/parallel.hpp"
#include "moe/depth/stochastic_pair.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/router/named/loss_free.hpp"
#include "moe/router/named/top_k.hpp"
#include "moe/train/adamw.hpp"
#include "moe/train/trained_layer.hpp"
#include "support/catch.hpp"
#include "support/depth_calls.hpp"
#include "support/errors.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::Index;
using test::Values;
using Router = moe::SoftmaxTopK<double>;
using Bank = moe::Glu<moe::Silu, double>;
using Step = moe::MoeLayer<Router, Bank&>;

constexpr Index kTokens = 6, kWidth = 5, kExperts = 4;

Router router(std::uint64_t seed) {
  Router r = moe::softmax_top_k<double>({.width = kWidth, .experts = kExperts, .k = 2, .load_balance = 0.3});
  r.scorer().initialise(seed, 2);
  return r;
}
Bank bank() {
  Bank b({.experts = kExperts, .width = kWidth, .hidden = 3});
  b.initialise(9);
  return b;
}
moe::Chain<Step> chain(Bank& experts, Index steps) {
  std::vector<Step> layers;
  for (Index i = 0; i < steps; ++i) layers.emplace_back(router(static_cast<std::uint64_t>(i)), experts);
  return moe::Chain(std::move(layers), moe::Residual::inner);
}
Values rows(std::uint64_t seed) {
  return test::normal_rows(seed, kTokens, kWidth);
}

using Balanced = moe::LossFreeTopK<double>;
using Steered = moe::MoeLayer<Balanced, Bank&>;
using Omni = moe::MoeLayer<Balanced&, Bank&>;

/// Its bias moves by 1 at a step's end.
Balanced balanced(std::uint64_t seed) {
  Balanced r = moe::loss_free_top_k<double>({.width = kWidth, .experts = kExperts, .k = 1, .speed = 1});
  r.scorer().initialise(seed, 2);
  return r;
}

}  // namespace

TEST_CASE("parts that steps share are shown once, under their first step", "[depth]") {
  Bank shared = bank();
  const auto two = chain(shared, 2);
  std::vector<std::string> names;
  test::visit_layer(two, [&](const auto& p) { names.emplace_back(p.name); });
  CHECK(names.front() == "step0.gate.weight");
  CHECK(names.back() == "step1.gate.weight");
  CHECK(names.size() == 2 + 3 * kExperts);

  // One router and one bank: Omni-router over one pool.
  Balanced one = balanced(1);
  std::vector<Omni> layers;
  layers.emplace_back(one, shared);
  layers.emplace_back(one, shared);
  moe::Chain omni(std::move(layers));
  auto gradients = omni.make_gradients();
  Index shown = 0;
  omni.visit_parameters(gradients, [&](const moe::Parameter<double>& p) {
    ++shown;
    CHECK(std::string(p.name).starts_with("step0."));
    CHECK(p.gradient);
  });
  CHECK(shown == 1 + 3 * kExperts);
}

TEST_CASE("frozen steps add nothing; a shared bank has what the others add", "[depth]") {
  Bank shared = bank();
  auto two = chain(shared, 2);
  const Values x = rows(3), dy = rows(4);
  test::Trained all(two, test::rows_of(x, kWidth), dy);
  using Chain = decltype(two);
  moe::Workspace workspace;
  const auto with = [&](bool first, bool second) {
    const bool frozen[] = {first, second};
    auto gradients = two.make_gradients();
    Values dx(x.size());
    Chain::LayerGradients to(test::rows_of(dy, kWidth), test::rows_of(dx, kWidth), gradients);
    to.auxiliary_scale = 0.7;
    to.frozen_layer = frozen;
    two.backward(all.tape, to, workspace, test::serial());
    CHECK(test::same_bits(dx, all.dx));
    std::vector<bool> null;
    two.visit_storage(to, [&](const char*, double*, double* g, Index) { null.push_back(g == nullptr); });
    CHECK(null.front() == first);
    CHECK(null.back() == second);
    CHECK(null[1] == (first && second));
    return test::flat_gradients(two, gradients);
  };
  const Values first = with(false, true), second = with(true, false), none = with(true, true);
  const Values sum = test::flat_gradients(two, all.gradients);
  for (std::size_t i = 0; i < sum.size(); ++i) {
    CHECK(std::abs(first[i] + second[i] - sum[i]) <=
          64 * 0x1p-53 * (std::abs(first[i]) + std::abs(second[i])));
    CHECK(none[i] == 0);
  }
  const bool wrong[] = {true};
  Chain::LayerGradients to(test::rows_of(dy, kWidth), {}, all.gradients);
  to.frozen_layer = wrong;
  CHECK_THROWS_AS(two.backward(all.tape, to, workspace, test::serial()), moe::shape_error);
}

TEST_CASE("a layer of layers is saved, loaded and trained as a layer, shared parts once", "[depth]") {
  Bank shared = bank(), other = bank();
  auto two = chain(shared, 2), loaded = chain(other, 2);
  test::draw_parameters(two, 4);
  moe::ArchiveWriter writer;
  writer.add_layer("chain", std::as_const(two));
  const moe::Archive reader = moe::Archive::from_bytes(writer.bytes());
  reader.load_layer("chain", loaded);
  const Values x = rows(3), dy = rows(4);
  test::Trained a(two, test::rows_of(x, kWidth), dy), b(loaded, test::rows_of(x, kWidth), dy);
  CHECK(test::same_bits(a.y, b.y));

  // A step of AdamW moves every number once: by at most the rate (beside the decay), where there is a
  // gradient.
  moe::AdamW<double> optimiser({.decay = 0});
  Values before, after;
  const auto values = [&](Values& to) {
    test::visit_layer(two, [&](const auto& p) {
      for (Index i = 0; i < p.value.size(); ++i) to.push_back(p.value(i / p.value.cols, i % p.value.cols));
    });
  };
  values(before);
  optimiser.step(moe::TrainedLayer(two, a.gradients), 0.1);
  values(after);
  for (std::size_t i = 0; i < after.size(); ++i) CHECK(std::abs(after[i] - before[i]) < 0.1 * (1 + 1e-6));
  for (const double g : test::flat_gradients(two, a.gradients)) CHECK(g == 0);
}

TEST_CASE("state is under the name of its layer; gradients of other layers are refused", "[depth]") {
  Bank of_both = bank();
  std::vector<Steered> layers;
  for (int i = 0; i < 2; ++i) layers.emplace_back(balanced(1), of_both);
  moe::Chain two(std::move(layers));
  std::vector<std::string> names;
  std::as_const(two).visit_state([&](const char* name, const double*, Index) { names.emplace_back(name); });
  REQUIRE(names.size() == 2);
  CHECK(names[0].starts_with("step0."));
  CHECK(names[1].starts_with("step1."));

  Bank shared = bank(), wide({.experts = kExperts, .width = kWidth, .hidden = 4});
  auto a = chain(shared, 2), three = chain(shared, 3), b = chain(wide, 2);
  auto fewer = a.make_gradients(), other = b.make_gradients();
  CHECK_THROWS_AS(three.zero_gradients(fewer), moe::shape_error);
  CHECK_THROWS_AS(a.zero_gradients(other), moe::shape_error);
  a.zero_gradients(fewer);
}

namespace {

Values bias_of(const Balanced& router) {
  Values all;
  const auto take = [&](const char*, const double* bias, Index n) { all.assign(bias, bias + n); };
  router.visit_state(take);
  return all;
}
Values moved(Balanced router, const moe::RouteStats& stats) {
  router.on_step_end(stats);
  return bias_of(router);
}
moe::RouteStats counted(const Values& x, const auto& layer) {
  Values y(x.size());
  moe::RouteStats stats;
  moe::LayerOutput<double> out(test::rows_of(y, kWidth), &stats);
  moe::Workspace workspace;
  layer.forward(test::rows_of(x, kWidth), out, workspace, test::serial());
  return stats;
}
bool same_counts(const moe::RouteStats& a, const moe::RouteStats& b) {
  bool same = a.tokens == b.tokens && a.experts() == b.experts();
  for (Index e = 0; same && e < a.experts(); ++e) {
    same = a.load[e] == b.load[e] && a.gate_mass[e] == b.gate_mass[e];
  }
  return same;
}

}  // namespace

TEST_CASE("every layer's counts are its own, and move its router at a step's end", "[depth]") {
  Bank shared = bank();
  std::vector<Steered> layers;
  for (std::uint64_t i = 0; i < 2; ++i) layers.emplace_back(balanced(i), shared);
  moe::Chain two(layers);
  const Values x = rows(3);
  Values h(x.size());
  moe::RouteStats first;
  moe::LayerOutput<double> out(test::rows_of(h, kWidth), &first);
  moe::Workspace workspace;
  layers[0].forward(test::rows_of(x, kWidth), out, workspace, test::serial());
  const moe::RouteStats second = counted(h, layers[1]);

  moe::RouteStats stats = counted(x, two);
  REQUIRE(stats.layers.size() == 2);
  CHECK(same_counts(stats.layers[0], first));
  CHECK(same_counts(stats.layers[1], second));
  moe::RouteStats sum = first;
  sum.add(second);
  CHECK(same_counts(stats, sum));
  REQUIRE_FALSE(moved(balanced(0), first) == moved(balanced(0), second));

  two.on_step_end(stats);
  CHECK(bias_of(two.layers()[0].router()) == moved(balanced(0), first));
  CHECK(bias_of(two.layers()[1].router()) == moved(balanced(1), second));
  // Without layers: what all of them chose.
  moe::Chain again(std::move(layers));
  again.on_step_end(sum);
  for (const Steered& layer : again.layers()) CHECK(bias_of(layer.router()) == moved(balanced(0), sum));
  stats.layers.resize(3);
  CHECK(test::message_of<moe::shape_error>([&] { two.on_step_end(stats); }) ==
        "moe: statistics: expected 2 layers, got 3");
}

TEST_CASE("a router that several layers refer to moves once, by the sum of their counts", "[depth]") {
  Bank shared = bank();
  Balanced router = balanced(1);
  std::vector<Omni> layers;
  for (int i = 0; i < 3; ++i) layers.emplace_back(router, shared);
  moe::Chain omni(std::move(layers));
  const moe::RouteStats stats = counted(rows(3), omni);
  CHECK(stats.layers[2].tokens == kTokens);
  const Values want = moved(balanced(1), stats);
  omni.on_step_end(stats);
  CHECK(bias_of(router) == want);
}

TEST_CASE("layers within layers get their counts through all that is around them", "[depth]") {
  Bank shared = bank();
  using Inner = moe::Chain<moe::NormedLayer<Steered>>;
  std::vector<moe::NormedLayer<Steered>> steps;
  for (std::uint64_t i = 0; i < 2; ++i) steps.emplace_back(Steered(balanced(i), shared));
  moe::Parallel both(std::tuple(Inner(std::move(steps)), moe::MomentumSmoe<Step>(Step(router(5), shared)),
                                moe::s2moe(Steered(balanced(7), shared))));
  const moe::RouteStats stats = counted(rows(3), both);
  REQUIRE(stats.layers.size() == 3);
  REQUIRE(stats.layers[0].layers.size() == 2);
  CHECK(stats.layers[1].pairs() == 2 * kTokens);
  CHECK(stats.tokens == 4 * kTokens);
  both.on_step_end(stats);
  const auto& inner = std::get<0>(both.layers());
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(bias_of(inner.layers()[i].layer().router()) == moved(balanced(i), stats.layers[0].layers[i]));
  }
  CHECK(bias_of(std::get<2>(both.layers()).layer().router()) == moved(balanced(7), stats.layers[2]));
}
