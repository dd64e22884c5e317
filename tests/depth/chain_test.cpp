// Chains: their identity with one layer and with steps by hand, one bank in several steps, what refusals
// leave.
#include "moe/depth/chain.hpp"

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/shared/shared_experts.hpp"
#include "moe/router/named/expert_choice.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"
#include "support/close.hpp"
#include "support/layer_laws.hpp"
#include "support/same_bits.hpp"
#include "support/taken.hpp"

namespace {

using moe::Index;
template <class Real>
using Router = moe::SoftmaxTopK<Real>;
template <class Real>
using Bank = moe::Glu<moe::Silu, Real>;
template <class Real>
using Step = moe::MoeLayer<Router<Real>, Bank<Real>&>;
using Values = std::vector<double>;

constexpr Index kTokens = 6, kWidth = 5, kExperts = 4;

template <class Real>
Router<Real> router(std::uint64_t seed, moe::NonFinite non_finite = moe::NonFinite::throw_) {
  Router<Real> r = moe::softmax_top_k<Real>(
      {.width = kWidth, .experts = kExperts, .k = 2, .load_balance = 0.3, .non_finite = non_finite});
  r.scorer().initialise(seed, 2);
  return r;
}
template <class Real>
Bank<Real> bank(std::uint64_t seed = 9) {
  Bank<Real> b({.experts = kExperts, .width = kWidth, .hidden = 3});
  b.initialise(seed);
  return b;
}
template <class Real>
moe::Chain<Step<Real>> chain(Bank<Real>& experts, Index steps, moe::Residual residual) {
  std::vector<Step<Real>> layers;
  for (Index i = 0; i < steps; ++i) layers.emplace_back(router<Real>(static_cast<std::uint64_t>(i)), experts);
  return moe::Chain(std::move(layers), residual);
}
template <class Real = double>
std::vector<Real> rows(std::uint64_t seed = 3, Index tokens = kTokens) {
  std::mt19937_64 random(seed);
  std::normal_distribution<Real> normal;
  std::vector<Real> x(static_cast<std::size_t>(tokens * kWidth));
  for (Real& v : x) v = normal(random);
  return x;
}
template <class Real>
moe::ConstMatrixView<Real> view(const std::vector<Real>& x) {
  return {x.data(), static_cast<Index>(x.size()) / kWidth, kWidth};
}
template <class Real>
moe::MatrixView<Real> view(std::vector<Real>& x) {
  return {x.data(), static_cast<Index>(x.size()) / kWidth, kWidth};
}
template <class L>
Values flat(L& layer, typename L::Gradients& gradients) {
  Values all;
  layer.visit_storage(gradients,
                      [&](const char*, auto*, auto* g, Index n) { all.insert(all.end(), g, g + n); });
  return all;
}
template <class Part>
Values of_part(Part& part, typename Part::Gradients& gradients) {
  Values all;
  const auto append = [&](const char*, double*, double* g, Index n) { all.insert(all.end(), g, g + n); };
  part.visit_storage(&gradients, append);
  return all;
}
/// y, dx, losses and gradients of one training call.
template <class L>
struct Trained {
  using Real = typename L::Real;
  std::vector<Real> y, dx;
  double losses = 0;
  typename L::Tape tape;
  typename L::Gradients gradients;

  Trained(const L& layer, const std::vector<Real>& x, const std::vector<Real>& dy)
      : y(x.size()), dx(x.size()), tape(layer.make_tape()), gradients(layer.make_gradients()) {
    moe::Workspace workspace;
    moe::LayerOutput<Real> out(view(y));
    layer.forward_train(view(x), out, tape, workspace);
    losses = out.losses.total();
    back(layer, dy, workspace);
  }
  void back(const L& layer, const std::vector<Real>& dy, moe::Workspace& workspace) {
    typename L::LayerGradients to(view(dy), view(dx), gradients);
    to.auxiliary_scale = 0.7;
    layer.backward(tape, to, workspace);
  }
};

}  // namespace

TEST_CASE("chains keep the laws of layers: over one bank, over banks, of two types", "[depth]") {
  static Bank<double> shared = bank<double>();
  for (const moe::Residual residual : {moe::Residual::none, moe::Residual::inner}) {
    test::check_layer(
        "three steps over one bank", [&] { return chain(shared, 3, residual); },
        [&] { return chain(shared, 2, residual); });
  }
  using Wide = moe::MoeLayer<Router<double>, Bank<double>, moe::Dropless, moe::SharedExperts<Bank<double>>>;
  using Narrow = moe::MoeLayer<Router<double>, moe::Mlp<moe::GeluErf, double>>;
  test::check_layer("two types", [] {
    return moe::Chain(std::tuple(Wide(router<double>(1), bank<double>(), {},
                                      moe::SharedExperts<Bank<double>>(
                                          Bank<double>({.experts = 1, .width = kWidth, .hidden = 2}))),
                                 Narrow(moe::softmax_top_k<double>({.width = kWidth, .experts = 3, .k = 1}),
                                        moe::Mlp<moe::GeluErf, double>({3, kWidth, 4}))),
                      moe::Residual::inner);
  });
}

TEST_CASE("a chain that couples segments, and a chain of chains, keep the laws of layers", "[depth]") {
  using Choice = moe::MoeLayer<moe::ExpertChoice<double>, Bank<double>>;
  const auto choice = [] {
    return Choice(moe::expert_choice<double>({.width = kWidth, .experts = 3, .capacity_factor = 1.5}),
                  Bank<double>({.experts = 3, .width = kWidth, .hidden = 2}));
  };
  test::check_layer("expert choice", [&] {
    std::vector<Choice> steps;
    steps.push_back(choice());
    steps.push_back(choice());
    return moe::Chain(std::move(steps), moe::Residual::inner);
  });
  static Bank<double> shared = bank<double>();
  using Inner = moe::Chain<Step<double>>;
  test::check_layer("a chain of chains", [] {
    std::vector<Inner> steps;
    steps.push_back(chain(shared, 2, moe::Residual::inner));
    return moe::Chain(std::move(steps), moe::Residual::inner);
  });
}

TEMPLATE_TEST_CASE("a chain of one step has the bits of its layer, forward and backward", "[depth][smoke]",
                   float, double) {
  Bank<TestType> experts = bank<TestType>();
  auto one = chain(experts, 1, moe::Residual::none);
  Step<TestType>& layer = one.layers()[0];
  const auto x = rows<TestType>(), dy = rows<TestType>(4);
  Trained in_chain(one, x, dy);
  Trained alone(layer, x, dy);
  CHECK(test::same_bits(in_chain.y, alone.y));
  CHECK(test::same_bits(in_chain.dx, alone.dx));
  CHECK(in_chain.losses == alone.losses);
  CHECK(flat(one, in_chain.gradients) == flat(layer, alone.gradients));
}

TEST_CASE("a chain is its steps by hand, and a bank's gradient the sum over the steps", "[depth]") {
  Bank<double> shared = bank<double>();
  const Values x = rows(), dy = rows(4);
  auto both = chain(shared, 3, moe::Residual::inner);
  Trained whole(both, x, dy);

  using Alone = moe::MoeLayer<Router<double>, Bank<double>>;
  std::vector<Alone> layers;
  for (std::uint64_t i = 0; i < 3; ++i) layers.emplace_back(router<double>(i), bank<double>());
  moe::Workspace workspace;
  std::vector<Values> h{x};
  std::vector<Alone::Tape> tapes(3);
  double losses = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    Values y(x.size());
    moe::LayerOutput<double> out(view(y));
    layers[i].forward_train(view(h[i]), out, tapes[i], workspace);
    for (std::size_t j = 0; j < y.size(); ++j) y[j] += h[i][j];
    h.push_back(y);
    losses += out.losses.total();
  }
  CHECK(test::same_bits(whole.y, h[3]));
  CHECK(std::abs(whole.losses - losses) <= 4 * 0x1p-53 * losses);

  // In the chain's order: from the last step to the first into the one object.
  auto experts = layers[0].make_gradients().experts;
  Values dh = dy, dx(x.size());
  for (std::size_t i = 3; i-- > 0;) {
    auto own = layers[i].make_gradients();
    Alone::LayerGradients to(view(std::as_const(dh)), view(dx), own);
    to.auxiliary_scale = 0.7;
    to.experts = &experts;
    layers[i].backward(tapes[i], to, workspace);
    for (std::size_t j = 0; j < dx.size(); ++j) dh[j] += dx[j];
    CHECK(of_part(layers[i].router(), own.router) ==
          of_part(both.layers()[i].router(), whole.gradients.layers[i].router));
  }
  CHECK(test::same_bits(whole.dx, dh));
  CHECK(of_part(shared, experts) == of_part(shared, whole.gradients.layers[0].experts));
}

TEST_CASE("parts that steps share are shown once, under their first step", "[depth]") {
  Bank<double> shared = bank<double>();
  const auto two = chain(shared, 2, moe::Residual::inner);
  std::vector<std::string> names;
  two.visit_parameters([&](const auto& p) { names.emplace_back(p.name); });
  CHECK(names.front() == "step0.gate.weight");
  CHECK(names.back() == "step1.gate.weight");
  CHECK(names.size() == 2 + 3 * kExperts);

  // One router and one bank: Omni-router over one pool.
  using Omni = moe::MoeLayer<Router<double>&, Bank<double>&>;
  Router<double> one = router<double>(1);
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
  Bank<double> shared = bank<double>();
  auto two = chain(shared, 2, moe::Residual::inner);
  const Values x = rows(), dy = rows(4);
  Trained all(two, x, dy);
  using Chain = decltype(two);
  moe::Workspace workspace;
  const auto with = [&](bool first, bool second) {
    const bool frozen[] = {first, second};
    auto gradients = two.make_gradients();
    Values dx(x.size());
    Chain::LayerGradients to(view(dy), view(dx), gradients);
    to.auxiliary_scale = 0.7;
    to.frozen_layer = frozen;
    two.backward(all.tape, to, workspace);
    CHECK(test::same_bits(dx, all.dx));
    std::vector<bool> null;
    two.visit_storage(to, [&](const char*, double*, double* g, Index) { null.push_back(g == nullptr); });
    CHECK(null.front() == first);
    CHECK(null.back() == second);
    CHECK(null[1] == (first && second));
    return flat(two, gradients);
  };
  const Values first = with(false, true), second = with(true, false), none = with(true, true);
  const Values sum = flat(two, all.gradients);
  for (std::size_t i = 0; i < sum.size(); ++i) {
    CHECK(std::abs(first[i] + second[i] - sum[i]) <=
          64 * 0x1p-53 * (std::abs(first[i]) + std::abs(second[i])));
    CHECK(none[i] == 0);
  }
  const bool wrong[] = {true};
  Chain::LayerGradients to(view(dy), {}, all.gradients);
  to.frozen_layer = wrong;
  CHECK_THROWS_AS(two.backward(all.tape, to, workspace), moe::shape_error);
}

TEST_CASE("identical linear experts with an inner residual are (I + A)^C x", "[depth]") {
  // Mlp with an identity between: f(x) = W2 W1 x, the same for all experts; normalised weights sum to 1.
  using Linear = moe::Mlp<moe::Identity, double>;
  Linear experts({.experts = kExperts, .width = kWidth, .hidden = kWidth});
  const Values a = rows(8, kWidth);
  Values identity(a.size());
  for (std::size_t j = 0; j < identity.size(); j += kWidth + 1) identity[j] = 1;
  for (Index e = 0; e < kExperts; ++e) experts.load(e, view(a), view(std::as_const(identity)));
  using Layer = moe::MoeLayer<Router<double>, Linear&>;
  std::vector<Layer> steps;
  for (std::uint64_t i = 0; i < 3; ++i) {
    moe::TopKOptions options{.width = kWidth, .experts = kExperts, .k = 2};
    options.weights.normalise = moe::Normalise::sum;
    auto r = moe::softmax_top_k<double>(options);
    r.scorer().initialise(i, 2);
    steps.emplace_back(std::move(r), experts);
  }
  const moe::Chain three(std::move(steps), moe::Residual::inner);
  const Values x = rows();
  Values y(x.size());
  moe::LayerOutput<double> out(view(y));
  moe::Workspace workspace;
  three.forward(view(x), out, workspace);
  for (Index t = 0; t < kTokens; ++t) {
    long double h[kWidth], size[kWidth];
    for (Index j = 0; j < kWidth; ++j) {
      h[j] = x[static_cast<std::size_t>(t * kWidth + j)];
      size[j] = std::fabs(h[j]);
    }
    for (int step = 0; step < 3; ++step) {
      long double next[kWidth], bound[kWidth];
      for (Index i = 0; i < kWidth; ++i) {
        next[i] = h[i];
        bound[i] = size[i];
        for (Index j = 0; j < kWidth; ++j) {
          const long double aij = a[static_cast<std::size_t>(i * kWidth + j)];
          next[i] += aij * h[j];
          bound[i] += std::fabs(aij) * size[j];
        }
      }
      for (Index i = 0; i < kWidth; ++i) {
        h[i] = next[i];
        size[i] = bound[i];
      }
    }
    // Per step two products over kWidth, softmax, normalisation, two weighted results, the residual.
    for (Index j = 0; j < kWidth; ++j) {
      CHECK(test::within(y[static_cast<std::size_t>(t * kWidth + j)], h[j],
                         test::gamma<double>(3 * (2 * kWidth + 12)) * size[j]));
    }
  }
}

TEST_CASE("what a later step refuses leaves y, draws and counts as they were, and an empty tape", "[depth]") {
  Bank<double> shared = bank<double>();
  auto two = chain(shared, 2, moe::Residual::none);
  const Values x = rows();
  Values y(x.size(), 7);
  moe::LayerOutput<double> out(view(y));
  moe::RouteStats stats;
  out.stats = &stats;
  moe::DrawCounter draws(5);
  moe::LayerInput<double> in(view(x));
  in.draws = &draws;
  auto tape = two.make_tape();
  moe::Workspace workspace;
  two.forward_train(in, out, tape, workspace);
  CHECK(draws.calls() == 2);
  CHECK(stats.tokens == 2 * kTokens);
  CHECK(stats.pairs() == 4 * kTokens);

  two.visit_parameters([](const moe::Parameter<double>& p) {
    if (std::string(p.name) == "step1.gate.weight") p.value(1, 2) = std::numeric_limits<double>::infinity();
  });
  y.assign(y.size(), 7);
  const moe::RouteStats before = stats;
  for (const bool fresh : {false, true}) {
    moe::RouteStats none;
    out.stats = fresh ? &none : &stats;
    CHECK_THROWS_AS(two.forward(in, out, workspace), moe::numeric_error);
    CHECK_THROWS_AS(two.forward_train(in, out, tape, workspace), moe::numeric_error);
    CHECK((none.tokens == 0 && none.pairs() == 0));
  }
  CHECK(y == Values(y.size(), 7));
  CHECK(draws.calls() == 2);
  CHECK((stats.tokens == before.tokens && stats.pairs() == before.pairs()));
  for (Index e = 0; e < kExperts; ++e) {
    CHECK((stats.load[e] == before.load[e] && stats.gate_mass[e] == before.gate_mass[e]));
  }
  auto gradients = two.make_gradients();
  CHECK(tape.tokens() == 0);
  CHECK_THROWS_AS(two.backward(tape, {view(x), view(y), gradients}, workspace), moe::state_error);
}

TEST_CASE("a row that a step isolates is NaN and has no gradient; the others do not notice", "[depth]") {
  Bank<double> shared = bank<double>();
  std::vector<Step<double>> steps;
  for (std::uint64_t i = 0; i < 2; ++i) {
    steps.emplace_back(router<double>(i, moe::NonFinite::isolate_row), shared);
  }
  const moe::Chain two(std::move(steps), moe::Residual::inner);
  const Values x = rows(), dy = rows(4);
  Values bad = x, bad_dy = dy;
  bad[2 * kWidth + 1] = std::numeric_limits<double>::infinity();
  for (Index j = 0; j < kWidth; ++j) bad_dy[static_cast<std::size_t>(2 * kWidth + j)] = NAN;
  auto layer = two;
  Trained trained(layer, bad, bad_dy);
  bool valid[kTokens] = {true, true, false, true, true, true};
  moe::LayerInput<double> in(view(x));
  in.valid = valid;
  Values y(x.size()), dx(x.size());
  moe::LayerOutput<double> out(view(y));
  auto tape = two.make_tape();
  moe::Workspace workspace;
  two.forward_train(in, out, tape, workspace);
  auto gradients = two.make_gradients();
  moe::Chain<Step<double>>::LayerGradients to(view(dy), view(dx), gradients);
  to.auxiliary_scale = 0.7;
  two.backward(tape, to, workspace);
  for (Index i = 0; i < kTokens * kWidth; ++i) {
    const auto k = static_cast<std::size_t>(i);
    if (i / kWidth == 2) {
      CHECK(std::isnan(trained.y[k]));
      CHECK(trained.dx[k] == 0);
    } else {
      CHECK(trained.y[k] == y[k]);
      CHECK(trained.dx[k] == dx[k]);
    }
  }
  CHECK(flat(layer, trained.gradients) == flat(layer, gradients));
}

TEST_CASE("chains refuse what is none, and calls that are not theirs", "[depth]") {
  Bank<double> shared = bank<double>();
  CHECK_THROWS_AS(moe::Chain(std::vector<Step<double>>{}), moe::config_error);
  Bank<double> wide({.experts = kExperts, .width = kWidth + 1, .hidden = 3});
  std::vector<Step<double>> steps;
  steps.emplace_back(router<double>(1), shared);
  steps.emplace_back(moe::softmax_top_k<double>({.width = kWidth + 1, .experts = kExperts, .k = 2}), wide);
  CHECK_THROWS_AS(moe::Chain(std::move(steps)), moe::config_error);

  auto two = chain(shared, 2, moe::Residual::inner);
  const Values x = rows();
  Values y(x.size());
  moe::LayerOutput<double> out(view(y));
  moe::LayerInput<double> in(view(x));
  moe::Workspace workspace;
  in.router_x = view(x);
  CHECK_THROWS_AS(two.forward(in, out, workspace), moe::config_error);
  in.router_x = {};
  auto tape = two.make_tape(), other = chain(shared, 3, moe::Residual::inner).make_tape();
  CHECK_THROWS_AS(two.forward_train(in, out, other, workspace), moe::state_error);
  two.forward_train(in, out, tape, workspace);
  auto gradients = two.make_gradients();
  Values dx(x.size());
  decltype(two)::LayerGradients to(view(x), view(dx), gradients);
  to.router_dx = view(y);
  CHECK_THROWS_AS(two.backward(tape, to, workspace), moe::config_error);
  auto moved = test::taken(two);
  CHECK_THROWS_AS(two.forward(in, out, workspace), moe::state_error);
  moved.backward(tape, {view(x), view(dx), gradients}, workspace);
}
