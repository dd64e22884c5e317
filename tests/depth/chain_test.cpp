// Chains: their identity with one layer and with steps by hand, one bank in several steps, what refusals
// leave.
#include "moe/depth/chain.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/isolated_layer.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/shared/shared_experts.hpp"
#include "moe/router/named/expert_choice.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"
#include "support/close.hpp"
#include "support/depth_calls.hpp"
#include "support/layer_laws.hpp"
#include "support/same_bits.hpp"
#include "support/taken.hpp"

namespace {

using moe::Index;
using Router = moe::SoftmaxTopK<double>;
using Bank = moe::Glu<moe::Silu, double>;
using Step = moe::MoeLayer<Router, Bank&>;
using test::Values;

constexpr Index kTokens = 6, kWidth = 5, kExperts = 4;

Router router(std::uint64_t seed, moe::NonFinite non_finite = moe::NonFinite::throw_) {
  Router r = moe::softmax_top_k<double>(
      {.width = kWidth, .experts = kExperts, .k = 2, .load_balance = 0.3, .non_finite = non_finite});
  r.scorer().initialise(seed, 2);
  return r;
}
Bank bank(std::uint64_t seed = 9) {
  Bank b({.experts = kExperts, .width = kWidth, .hidden = 3});
  b.initialise(seed);
  return b;
}
moe::Chain<Step> chain(Bank& experts, Index steps, moe::Residual residual) {
  std::vector<Step> layers;
  for (Index i = 0; i < steps; ++i) layers.emplace_back(router(static_cast<std::uint64_t>(i)), experts);
  return moe::Chain(std::move(layers), residual);
}
Values rows(std::uint64_t seed = 3, Index tokens = kTokens) {
  return test::normal_rows(seed, tokens, kWidth);
}
moe::ConstMatrixView<double> view(const Values& x) {
  return test::rows_of(x, kWidth);
}
moe::MatrixView<double> view(Values& x) {
  return test::rows_of(x, kWidth);
}
template <class L>
auto trained(const L& layer, const std::vector<typename L::Real>& x,
             const std::vector<typename L::Real>& dy) {
  return test::Trained<L>(layer, view(x), dy);
}

}  // namespace

TEST_CASE("chains keep the laws of layers: over one bank, over banks, of two types", "[depth]") {
  static Bank shared = bank();
  for (const moe::Residual residual : {moe::Residual::none, moe::Residual::inner}) {
    test::check_layer(
        "three steps over one bank", [&] { return chain(shared, 3, residual); },
        [&] { return chain(shared, 2, residual); });
  }
  using Wide = moe::MoeLayer<Router, Bank, moe::Dropless, moe::SharedExperts<Bank>>;
  test::check_layer("two types", [&] {
    return moe::Chain(
        std::tuple(Wide(router(1), bank(), {},
                        moe::SharedExperts<Bank>(Bank({.experts = 1, .width = kWidth, .hidden = 2}))),
                   Step(moe::softmax_top_k<double>({.width = kWidth, .experts = kExperts, .k = 1}), shared)),
        moe::Residual::inner);
  });
}

TEST_CASE("a chain that couples segments, and a chain of chains, keep the laws of layers", "[depth]") {
  using Choice = moe::MoeLayer<moe::ExpertChoice<double>, Bank>;
  const auto choice = [] {
    return Choice(moe::expert_choice<double>({.width = kWidth, .experts = 3, .capacity_factor = 1.5}),
                  Bank({.experts = 3, .width = kWidth, .hidden = 2}));
  };
  test::check_layer("expert choice", [&] {
    std::vector<Choice> steps;
    steps.push_back(choice());
    steps.push_back(choice());
    return moe::Chain(std::move(steps), moe::Residual::inner);
  });
  static Bank shared = bank();
  using Inner = moe::Chain<Step>;
  test::check_layer("a chain of chains", [] {
    std::vector<Inner> steps;
    steps.push_back(chain(shared, 2, moe::Residual::inner));
    return moe::Chain(std::move(steps), moe::Residual::inner);
  });
}

TEST_CASE("a chain of one step has the bits of its layer, forward and backward", "[depth][smoke]") {
  Bank experts = bank();
  auto one = chain(experts, 1, moe::Residual::none);
  Step& layer = one.layers()[0];
  const auto x = rows(), dy = rows(4);
  auto in_chain = trained(one, x, dy);
  auto alone = trained(layer, x, dy);
  CHECK(test::same_bits(in_chain.y, alone.y));
  CHECK(test::same_bits(in_chain.dx, alone.dx));
  CHECK(in_chain.losses == alone.losses);
  CHECK(test::flat_gradients(one, in_chain.gradients) == test::flat_gradients(layer, alone.gradients));
}

TEST_CASE("a chain is its steps by hand, and a bank's gradient the sum over the steps", "[depth]") {
  Bank shared = bank();
  const Values x = rows(), dy = rows(4);
  auto both = chain(shared, 3, moe::Residual::inner);
  auto whole = trained(both, x, dy);

  std::vector<Bank> banks(3, bank());
  std::vector<Step> layers;
  for (std::size_t i = 0; i < 3; ++i) layers.emplace_back(router(i), banks[i]);
  moe::Workspace workspace;
  std::vector<Values> h{x};
  std::vector<Step::Tape> tapes(3);
  double losses = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    Values y(x.size());
    moe::LayerOutput<double> out(view(y));
    layers[i].forward_train(view(h[i]), out, tapes[i], workspace, test::serial());
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
    Step::LayerGradients to(view(std::as_const(dh)), view(dx), own);
    to.auxiliary_scale = 0.7;
    to.experts = &experts;
    layers[i].backward(tapes[i], to, workspace, test::serial());
    for (std::size_t j = 0; j < dx.size(); ++j) dh[j] += dx[j];
    CHECK(test::part_gradients(layers[i].router(), own.router) ==
          test::part_gradients(both.layers()[i].router(), whole.gradients.layers[i].router));
  }
  CHECK(test::same_bits(whole.dx, dh));
  CHECK(test::part_gradients(shared, experts) ==
        test::part_gradients(shared, whole.gradients.layers[0].experts));
}

TEST_CASE("identical linear experts with an inner residual are (I + A)^C x", "[depth]") {
  // Mlp with an identity between: f(x) = W2 W1 x, the same for all experts; normalised weights sum to 1.
  using Linear = moe::Mlp<moe::Identity, double>;
  Linear experts({.experts = kExperts, .width = kWidth, .hidden = kWidth});
  const Values a = rows(8, kWidth);
  Values identity(a.size());
  for (std::size_t j = 0; j < identity.size(); j += kWidth + 1) identity[j] = 1;
  for (Index e = 0; e < kExperts; ++e) experts.load(e, view(a), view(std::as_const(identity)));
  std::vector<moe::MoeLayer<Router, Linear&>> steps;
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
  three.forward(view(x), out, workspace, test::serial());
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
  Bank shared = bank();
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
  two.forward_train(in, out, tape, workspace, test::serial());
  CHECK(draws.calls() == 2);
  CHECK(stats.tokens == 2 * kTokens);
  CHECK(stats.pairs() == 4 * kTokens);

  const test::ParameterVisit<double> spoil = [](const moe::Parameter<double>& p) {
    if (std::string(p.name) == "step1.gate.weight") p.value(1, 2) = std::numeric_limits<double>::infinity();
  };
  two.visit_parameters(spoil);
  y.assign(y.size(), 7);
  const moe::RouteStats before = stats;
  for (const bool fresh : {false, true}) {
    moe::RouteStats none;
    out.stats = fresh ? &none : &stats;
    CHECK_THROWS_AS(two.forward(in, out, workspace, test::serial()), moe::numeric_error);
    CHECK_THROWS_AS(two.forward_train(in, out, tape, workspace, test::serial()), moe::numeric_error);
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
  CHECK_THROWS_AS(two.backward(tape, {view(x), view(y), gradients}, workspace, test::serial()),
                  moe::state_error);
}

TEST_CASE("a row that a step isolates is NaN and has no gradient; the others do not notice", "[depth]") {
  Bank shared = bank();
  std::vector<Step> steps;
  for (std::uint64_t i = 0; i < 2; ++i) {
    steps.emplace_back(router(i, moe::NonFinite::isolate_row), shared);
  }
  const moe::Chain two(std::move(steps), moe::Residual::inner);
  const Values x = rows(), dy = rows(4);
  Values bad = x, bad_dy = dy;
  bad[2 * kWidth + 1] = std::numeric_limits<double>::infinity();
  for (Index j = 0; j < kWidth; ++j) bad_dy[static_cast<std::size_t>(2 * kWidth + j)] = NAN;
  auto layer = two;
  auto isolated = trained(layer, bad, bad_dy);
  bool valid[kTokens] = {true, true, false, true, true, true};
  moe::LayerInput<double> in(view(x));
  in.valid = valid;
  Values y(x.size()), dx(x.size());
  moe::LayerOutput<double> out(view(y));
  auto tape = two.make_tape();
  moe::Workspace workspace;
  two.forward_train(in, out, tape, workspace, test::serial());
  auto gradients = two.make_gradients();
  moe::Chain<Step>::LayerGradients to(view(dy), view(dx), gradients);
  to.auxiliary_scale = 0.7;
  two.backward(tape, to, workspace, test::serial());
  for (Index i = 0; i < kTokens * kWidth; ++i) {
    const auto k = static_cast<std::size_t>(i);
    if (i / kWidth == 2) {
      CHECK(std::isnan(isolated.y[k]));
      CHECK(isolated.dx[k] == 0);
    } else {
      CHECK(isolated.y[k] == y[k]);
      CHECK(isolated.dx[k] == dx[k]);
    }
  }
  CHECK(test::flat_gradients(layer, isolated.gradients) == test::flat_gradients(layer, gradients));
}

TEST_CASE("a chain is as coupled as its weakest step, and isolated as a layer is", "[depth]") {
  using Choice = moe::MoeLayer<moe::ExpertChoice<double>, Bank>;
  using moe::Coupling;
  static_assert(moe::Chain<Step>::coupling(true) == Coupling::row_independent);
  static_assert(moe::Chain<Step, Choice>::coupling(false) == Coupling::per_segment);
  Bank shared = bank();
  const auto two = chain(shared, 2, moe::Residual::inner);
  const moe::IsolatedLayer<moe::Chain<Step>> isolated(two);
  const Values x = rows();
  Values y(x.size()), alone(x.size());
  moe::LayerOutput<double> out(view(y)), own(view(alone));
  moe::Workspace workspace;
  two.forward(view(x), out, workspace, test::serial());
  isolated.forward(view(x), own, workspace, test::serial());
  CHECK(test::same_bits(y, alone));
  // A later step that couples rows is refused without segments before the first one runs.
  const moe::Chain mixed(
      std::tuple(Step(router(1), shared),
                 Choice(moe::expert_choice<double>({.width = kWidth, .experts = 3, .capacity_factor = 1.5}),
                        Bank({.experts = 3, .width = kWidth, .hidden = 2}))));
  CHECK_THROWS_AS(mixed.forward(view(x), out, workspace, test::serial()), moe::config_error);
}

TEST_CASE("chains refuse what is none, and calls that are not theirs", "[depth]") {
  Bank shared = bank();
  CHECK_THROWS_AS(moe::Chain(std::vector<Step>{}), moe::config_error);
  Bank wide({.experts = kExperts, .width = kWidth + 1, .hidden = 3});
  std::vector<Step> steps;
  steps.emplace_back(router(1), shared);
  steps.emplace_back(moe::softmax_top_k<double>({.width = kWidth + 1, .experts = kExperts, .k = 2}), wide);
  CHECK_THROWS_AS(moe::Chain(std::move(steps)), moe::config_error);

  auto two = chain(shared, 2, moe::Residual::inner);
  const Values x = rows();
  Values y(x.size());
  moe::LayerOutput<double> out(view(y));
  moe::LayerInput<double> in(view(x));
  moe::Workspace workspace;
  in.router_x = view(x);
  CHECK_THROWS_AS(two.forward(in, out, workspace, test::serial()), moe::config_error);
  in.router_x = {};
  auto tape = two.make_tape(), other = chain(shared, 3, moe::Residual::inner).make_tape();
  CHECK_THROWS_AS(two.forward_train(in, out, other, workspace, test::serial()), moe::state_error);
  two.forward_train(in, out, tape, workspace, test::serial());
  auto gradients = two.make_gradients();
  Values dx(x.size());
  decltype(two)::LayerGradients to(view(x), view(dx), gradients);
  to.router_dx = view(y);
  CHECK_THROWS_AS(two.backward(tape, to, workspace, test::serial()), moe::config_error);
  auto moved = test::taken(two);
  CHECK_THROWS_AS(two.forward(in, out, workspace, test::serial()), moe::state_error);
  moved.backward(tape, {view(x), view(dx), gradients}, workspace, test::serial());
}
