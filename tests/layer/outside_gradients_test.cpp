// What a caller hands to a layer's backward beside dY: gradients of the logits, advantages of what was
// sampled, pairs that train no expert.
#include <Eigen/Core>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "moe/executor/pool.hpp"
#include "moe/expert/bank/function.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/isolated_layer.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "moe/router/hash_table.hpp"
#include "moe/router/kind/every.hpp"
#include "moe/router/kind/hash.hpp"
#include "moe/router/kind/random.hpp"
#include "moe/router/named/expert_choice.hpp"
#include "moe/router/named/remix.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::Index;
using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Bank = moe::Glu<moe::Silu, double>;
constexpr Index kTokens = 7, kWidth = 5, kExperts = 4;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

Bank bank(Index experts = kExperts) {
  Bank b({.experts = experts, .width = kWidth, .hidden = 6, .bias = true});
  b.initialise(2);
  return b;
}
template <class R>
R started(R router) {
  router.scorer().initialise(3, 3);
  return router;
}
auto top_k() {
  return started(
      moe::softmax_top_k<double>({.width = kWidth, .experts = kExperts, .k = 2, .load_balance = 0.3}));
}
auto remix() {
  return started(moe::remix_router<double>({.width = kWidth, .experts = kExperts, .k = 2}));
}

/// A forward_train of a layer and what its backwards give.
template <class Layer>
struct Trial {
  using Back = typename Layer::LayerGradients;
  const Layer& layer;
  Rows x = Rows::Random(kTokens, kWidth), y = Rows::Zero(kTokens, kWidth), dy = Rows::Random(kTokens, kWidth),
       dx = Rows::Constant(kTokens, kWidth, 8);
  moe::DrawCounter draws{5};
  moe::Workspace workspace;
  typename Layer::Tape tape;
  typename Layer::Gradients gradients;

  explicit Trial(const Layer& l, const std::function<void(moe::LayerInput<double>&)>& change = {})
      : layer(l), gradients(l.make_gradients()) {
    moe::LayerInput<double> in(x);
    in.draws = &draws;
    if (change) change(in);
    moe::LayerOutput<double> out(y);
    layer.forward_train(in, out, tape, workspace);
  }
  /// Parameter gradients of one part, flat, then dx; those of the router are first.
  struct Result {
    std::vector<double> router, experts, dx;
  };
  template <class Change>
  Result backward(const Change& change) {
    layer.zero_gradients(gradients);
    Back back(dy, dx, gradients);
    change(back);
    layer.backward(tape, back, workspace);
    return result();
  }
  Result backward() {
    return backward([](Back&) {});
  }
  Result result() {
    Result r;
    const_cast<Layer&>(layer).visit_storage(gradients, [&](const char* name, double*, double* g, Index n) {
      auto& to = std::string(name).rfind("experts", 0) == 0 ? r.experts : r.router;
      to.insert(to.end(), g, g + n);
    });
    r.dx.assign(dx.data(), dx.data() + dx.size());
    return r;
  }
  /// Throws, and has written nothing.
  template <class Error, class Change>
  std::string refuses(const Change& change) {
    layer.zero_gradients(gradients);
    dx.setConstant(8);
    Back back(dy, dx, gradients);
    change(back);
    const std::string text = test::message_of<Error>([&] { layer.backward(tape, back, workspace); });
    CHECK((dx.array() == 8).all());
    for (const auto& part : {result().router, result().experts}) {
      for (const double g : part) CHECK(g == 0);
    }
    return text;
  }
};

bool close(const std::vector<double>& a, const std::vector<double>& b) {
  bool all = a.size() == b.size();
  for (std::size_t i = 0; all && i < a.size(); ++i)
    all = std::abs(a[i] - b[i]) <= 1e-12 * (1 + std::abs(b[i]));
  return all;
}

Rows product(const Rows& a, const Rows& b) {
  Rows c = Rows::Zero(a.rows(), b.cols());
  for (Index i = 0; i < a.rows(); ++i) {
    for (Index j = 0; j < b.cols(); ++j) {
      for (Index k = 0; k < a.cols(); ++k) c(i, j) += a(i, k) * b(k, j);
    }
  }
  return c;
}

/// The difference that `dlogit` [T, N] makes to a linear router: dW = dlogit^T x, dx = dlogit W.
template <class Trial>
void check_difference(Trial& trial, const Rows& weight, const Rows& dlogit,
                      const typename Trial::Result& without, const typename Trial::Result& with) {
  const Rows dx = product(dlogit, weight);
  double sum = 0, moved = 0;  // of dW, which is packed: over all
  for (Index t = 0; t < kTokens; ++t) sum += dlogit.row(t).sum() * trial.x.row(t).sum();
  for (Index i = 0; i < dx.size(); ++i) {
    CHECK(std::abs(with.dx[static_cast<std::size_t>(i)] - without.dx[static_cast<std::size_t>(i)] -
                   dx.data()[i]) < 1e-12);
  }
  for (std::size_t i = 0; i < with.router.size(); ++i) moved += with.router[i] - without.router[i];
  CHECK(std::abs(sum - moved) < 1e-11);
  CHECK(test::same_bits(with.experts, without.experts));
}
template <class R>
Rows weight_of(R& router) {
  Rows w(kExperts, kWidth);
  auto look = [&](const moe::Parameter<double>& p) {
    for (Index o = 0; o < w.rows(); ++o) {
      for (Index i = 0; i < w.cols(); ++i) w(o, i) = p.value(o, i);
    }
  };
  router.visit_parameters(nullptr, look);
  return w;
}

}  // namespace

TEST_CASE("dlogit is of the logits that the score saw: masked, and over the temperature", "[layer][smoke]") {
  using Layer = moe::MoeLayer<decltype(top_k()), Bank>;
  Layer layer(top_k(), bank());
  Rows mask = Rows::Zero(kTokens, kExperts), dlogit = Rows::Random(kTokens, kExperts);
  mask(1, 2) = -kInfinity;
  moe::Buffer<bool> valid;
  valid.assign(kTokens, true);
  valid[4] = false;
  Trial<Layer> trial(layer, [&](auto& in) {
    in.logit_mask = mask;
    in.valid = {valid.data(), std::size_t{kTokens}};
    in.options.temperature = 0.5;
  });
  const auto without = trial.backward();
  dlogit.row(4).setConstant(kNan);  // takes no part
  const auto with = trial.backward([&](auto& back) { back.dlogit = dlogit; });
  dlogit.row(4).setZero();
  dlogit(1, 2) = 0;
  check_difference(trial, weight_of(layer.router()), Rows(dlogit / 0.5), without, with);
  // Twice is once with twice as much.
  const auto again = trial.backward([&](auto& back) { back.dlogit = dlogit; });
  CHECK(test::same_bits(with.dx, again.dx));
}

TEST_CASE("dlogit reaches rows that no expert chose", "[layer]") {
  using Layer = moe::MoeLayer<moe::ExpertChoice<double>, Bank>;
  Layer layer(
      started(moe::expert_choice<double>({.width = kWidth, .experts = kExperts, .capacity_factor = 0.6})),
      bank());
  Trial<Layer> trial(layer);
  Index unchosen = 0;
  for (Index t = 0; t < kTokens; ++t) unchosen += trial.tape.routes().count(t) == 0 ? 1 : 0;
  REQUIRE(unchosen > 0);
  const Rows dlogit = Rows::Random(kTokens, kExperts);
  const auto without = trial.backward();
  check_difference(trial, weight_of(layer.router()), dlogit, without,
                   trial.backward([&](auto& back) { back.dlogit = dlogit; }));
}

TEST_CASE("an advantage is a gradient of ln Q of what the row drew, over the temperature", "[layer]") {
  using Layer = moe::MoeLayer<moe::RemixRouter<double>, Bank>;
  Layer layer(remix(), bank());
  Trial<Layer> trial(layer, [](auto& in) { in.options.temperature = 2; });
  std::vector<double> advantage;
  for (Index t = 0; t < kTokens; ++t) advantage.push_back(0.3 * static_cast<double>(t) - 1);
  const Rows weight = weight_of(layer.router());
  Rows dlogit = Rows::Zero(kTokens, kExperts);
  const auto& routes = trial.tape.routes();
  for (Index t = 0; t < kTokens; ++t) {
    REQUIRE(routes.count(t) == 2);
    const Rows l = product(Rows(trial.x.row(t) / 2), Rows(weight.transpose()));
    std::vector<bool> gone(kExperts, false);
    for (Index p = routes.offsets[t]; p < routes.offsets[t + 1]; ++p) {
      double sum = 0;
      for (Index e = 0; e < kExperts; ++e) sum += gone[static_cast<std::size_t>(e)] ? 0 : std::exp(l(0, e));
      for (Index e = 0; e < kExperts; ++e) {
        if (!gone[static_cast<std::size_t>(e)])
          dlogit(t, e) += advantage[static_cast<std::size_t>(t)] *
                          ((e == routes.expert[p] ? 1.0 : 0.0) - std::exp(l(0, e)) / sum) / 2;
      }
      gone[static_cast<std::size_t>(routes.expert[p])] = true;
    }
  }
  check_difference(trial, weight, dlogit, trial.backward(),
                   trial.backward([&](auto& back) { back.advantage = advantage; }));
}

TEST_CASE("a descent along an advantage makes costly draws rarer", "[layer]") {
  using Layer = moe::MoeLayer<moe::RemixRouter<double>, Bank>;
  Layer layer(remix(), bank());
  Trial<Layer> trial(layer);
  trial.dy.setZero();
  const moe::ExpertId costly = trial.tape.routes().expert[0];
  const Rows weight = weight_of(layer.router());
  const auto share = [&](const Rows& w) {
    const Rows l = product(Rows(trial.x.row(0)), Rows(w.transpose()));
    double sum = 0;
    for (Index e = 0; e < kExperts; ++e) sum += std::exp(l(0, e));
    return std::exp(l(0, costly)) / sum;
  };
  std::vector<double> advantage(kTokens, 0);
  advantage[0] = 1;
  layer.zero_gradients(trial.gradients);
  typename Layer::LayerGradients back(trial.dy, {}, trial.gradients);
  back.advantage = advantage;
  layer.backward(trial.tape, back, trial.workspace);
  layer.visit_storage(trial.gradients, [](const char*, double* w, double* g, Index n) {
    for (Index i = 0; i < n; ++i) w[i] -= 0.1 * g[i];
  });
  CHECK(share(weight_of(layer.router())) < share(weight));
}

TEST_CASE("frozen pairs train no expert, and change neither y, dx nor the router", "[layer][smoke]") {
  const auto check = [](auto layer) {
    using Layer = decltype(layer);
    Trial<Layer> trial(layer);
    const Rows y = trial.y;
    const auto plain = trial.backward();
    const auto& routes = trial.tape.routes();
    moe::Buffer<bool> frozen(routes.pairs());
    // All of expert 1's pairs: its gradients are exactly 0, the others' what they were.
    for (Index p = 0; p < routes.pairs(); ++p) frozen[p] = routes.expert[p] == 1;
    const auto one = trial.backward([&](auto& back) { back.frozen_pair = frozen; });
    CHECK((y.array() == trial.y.array()).all());
    CHECK(test::same_bits(one.dx, plain.dx));
    CHECK(test::same_bits(one.router, plain.router));
    CHECK(!test::same_bits(one.experts, plain.experts));
    trial.layer.zero_gradients(trial.gradients);
    typename Layer::LayerGradients back(trial.dy, trial.dx, trial.gradients);
    back.frozen_pair = frozen;
    trial.layer.backward(trial.tape, back, trial.workspace);
    std::size_t i = 0;
    double others = 0;
    layer.experts().visit_parameters(&trial.gradients.experts, [&](const moe::Parameter<double>& p) {
      const bool is_frozen = std::string(p.name).find("experts.1.") == 0;
      for (Index o = 0; o < p.gradient.rows; ++o) {
        for (Index c = 0; c < p.gradient.cols; ++c, ++i) {
          if (is_frozen) CHECK(p.gradient(o, c) == 0);
          if (!is_frozen) others += std::abs(p.gradient(o, c));
        }
      }
    });
    CHECK(others > 0);
    // Those of some rows: as of a call whose dY is 0 there, for the experts alone.
    for (Index t = 0; t < kTokens; ++t) {
      for (Index p = routes.offsets[t]; p < routes.offsets[t + 1]; ++p) frozen[p] = t % 2 == 0;
    }
    const auto some = trial.backward([&](auto& b) { b.frozen_pair = frozen; });
    CHECK(test::same_bits(some.dx, plain.dx));
    CHECK(test::same_bits(some.router, plain.router));
    for (Index t = 0; t < kTokens; t += 2) trial.dy.row(t).setZero();
    CHECK(close(some.experts, trial.backward().experts));
  };
  check(moe::MoeLayer<decltype(top_k()), Bank>(top_k(), bank()));
  check(moe::MoeLayer<decltype(top_k()), Bank, moe::FixedCapacity>(top_k(), bank(),
                                                                   moe::FixedCapacity({.factor = 0.8})));
  auto on_input = top_k();
  on_input.set_weight_place(moe::WeightPlace::input);
  check(moe::MoeLayer<decltype(top_k()), Bank>(std::move(on_input), bank()));
  check(moe::IsolatedLayer<moe::MoeLayer<decltype(top_k()), Bank>>(top_k(), bank()));
}

TEST_CASE("what comes from outside is checked before anything is written", "[layer][smoke]") {
  using Layer = moe::MoeLayer<moe::RemixRouter<double>, Bank>;
  const Layer layer(remix(), bank());
  Trial<Layer> trial(layer);
  Rows dlogit = Rows::Zero(kTokens, kExperts), wide = Rows::Zero(kTokens, kExperts + 1);
  std::vector<double> advantage(kTokens, 1), few(kTokens - 1, 1);
  moe::Buffer<bool> frozen(3);
  CHECK(trial.refuses<moe::shape_error>([&](auto& b) { b.dlogit = wide; }) ==
        "moe: dlogit: expected a matrix of 7 x 4, got 7 x 5");
  CHECK(trial.refuses<moe::shape_error>([&](auto& b) { b.advantage = few; }) ==
        "moe: advantage: expected 7 entries, got 6");
  CHECK(trial.refuses<moe::shape_error>([&](auto& b) { b.frozen_pair = frozen; }) ==
        "moe: frozen_pair: expected 14 entries, got 3");
  dlogit(3, 1) = kInfinity;
  CHECK(trial.refuses<moe::numeric_error>([&](auto& b) { b.dlogit = dlogit; }) ==
        "moe: dlogit: expected finite values, got inf for token 3, output 1");
  advantage[5] = kNan;
  CHECK(trial.refuses<moe::numeric_error>([&](auto& b) { b.advantage = advantage; }) ==
        "moe: advantage: expected finite values, got nan for token 5");
  // Memory that is written.
  CHECK(trial
            .refuses<moe::shape_error>(
                [&](auto& b) { b.dlogit = moe::ConstMatrixView<double>(trial.dx.data(), kTokens, kExperts); })
            .find("moe: dx: expected memory apart from dlogit") == 0);
}

TEST_CASE("threads change no bit of gradients from outside, nor does a row's place", "[layer][threads]") {
  using Layer = moe::MoeLayer<moe::RemixRouter<double>, Bank>;
  const Layer layer(remix(), bank());
  Trial<Layer> trial(layer);
  const Rows dlogit = Rows::Random(kTokens, kExperts);
  const std::vector<double> advantage{1, -2, 0.5, 0, 3, -1, 0.25};
  moe::Buffer<bool> frozen(trial.tape.routes().pairs());
  for (Index p = 0; p < frozen.size(); ++p) frozen[p] = p % 3 == 0;
  const auto all = [&](auto& back) {
    back.dlogit = dlogit;
    back.advantage = advantage;
    back.frozen_pair = frozen;
  };
  const auto serial = trial.backward(all);
  moe::PoolExecutor pool(3);
  layer.zero_gradients(trial.gradients);
  Layer::LayerGradients back(trial.dy, trial.dx, trial.gradients);
  all(back);
  layer.backward(trial.tape, back, trial.workspace, pool);
  CHECK(test::same_bits(serial.dx, trial.result().dx));
  CHECK(test::same_bits(serial.router, trial.result().router));
  CHECK(test::same_bits(serial.experts, trial.result().experts));

  // Row 4 alone: the same draw, by its key, and the same dx.
  const Rows x = trial.x.row(4), dy = trial.dy.row(4), one = dlogit.row(4);
  Rows y(1, kWidth), dx(1, kWidth);
  const std::uint64_t key = 4;
  moe::DrawCounter draws(5);
  moe::LayerInput<double> in(x);
  in.draws = &draws;
  in.row_key = {&key, 1};
  moe::LayerOutput<double> out(y);
  Layer::Tape tape;
  layer.forward_train(in, out, tape, trial.workspace);
  Layer::LayerGradients alone(dy, dx);
  alone.dlogit = one;
  alone.advantage = {&advantage[4], 1};
  layer.backward(tape, alone, trial.workspace);
  CHECK(test::same_bits(std::vector<double>(dx.data(), dx.data() + kWidth),
                        std::vector<double>(serial.dx.begin() + 4 * kWidth, serial.dx.begin() + 5 * kWidth)));
}

TEST_CASE("who cannot obey it refuses it", "[layer]") {
  const Rows dlogit = Rows::Zero(kTokens, kExperts);
  const std::vector<double> advantage(kTokens, 1);
  const auto given = [&](auto& b) { b.dlogit = dlogit; };
  const auto rewarded = [&](auto& b) { b.advantage = advantage; };
  {
    using Layer = moe::MoeLayer<decltype(top_k()), Bank>;
    const Layer layer(top_k(), bank());
    CHECK(Trial<Layer>(layer).template refuses<moe::config_error>(rewarded) ==
          "moe: advantage: expected none for a call whose choices were not sampled, got 7 entries");
  }
  {  // in inference it does not sample
    using Layer = moe::MoeLayer<moe::RemixRouter<double>, Bank>;
    const Layer layer(remix(), bank());
    Trial<Layer> trial(layer, [](auto& in) { in.mode = moe::Mode::inference; });
    CHECK(trial.refuses<moe::config_error>(rewarded) ==
          "moe: advantage: expected none for a call whose choices were not sampled, got 7 entries");
  }
  {
    using Layer = moe::MoeLayer<moe::HashRouter<double>, Bank>;
    const Layer layer(moe::HashRouter<double>(moe::HashTable::random(kTokens, kExperts, 1)), bank());
    const std::vector<moe::TokenId> ids{0, 1, 2, 3, 4, 5, 6};
    Trial<Layer> trial(layer, [&](auto& in) { in.token_id = ids; });
    CHECK(trial.refuses<moe::config_error>(given) ==
          "moe: dlogit: expected none for this router, which cannot obey it, got a matrix");
    CHECK(trial.refuses<moe::config_error>(rewarded) ==
          "moe: advantage: expected none for this router, which samples nothing, got 7 entries");
  }
  {
    const auto nothing = [](Index, const auto&, const auto&) {};
    const auto back = [](Index, const auto&, const auto&, const auto&, const auto&) {};
    using Own = moe::FunctionExperts<double, decltype(nothing), decltype(back)>;
    using Layer = moe::MoeLayer<decltype(top_k()), Own>;
    const Layer layer(top_k(), Own({.experts = kExperts, .width = kWidth}, nothing, back));
    Trial<Layer> trial(layer);
    moe::Buffer<bool> frozen(14);
    CHECK(trial.refuses<moe::config_error>([&](auto& b) { b.frozen_pair = frozen; }) ==
          "moe: frozen_pair: expected none for these experts, which cannot leave pairs out, got 14 entries");
  }
}

TEST_CASE("routers without logits refuse gradients from outside on their own as well", "[layer]") {
  moe::RouteGradients<double> out;
  const std::vector<double> one{1};
  moe::Arena arena;
  moe::SerialExecutor serial;
  const auto refuses = [&](const auto& router) {
    const moe::RouterInput<double> in;
    const moe::RouteTable<double> table;
    return test::message_of<moe::config_error>(
        [&] { router.backward(in, table, {}, out, nullptr, arena, serial); });
  };
  out.advantage = one;
  CHECK(refuses(moe::HashRouter<double>(moe::HashTable::random(3, 2, 1))) ==
        "moe: advantage: expected none for a hash router, which samples nothing, got 1 entries");
  CHECK(refuses(moe::RandomRouter<double>({.experts = 2})) ==
        "moe: advantage: expected none for a random router, which samples nothing, got 1 entries");
  out.dlogit = moe::ConstMatrixView<double>(one.data(), 1, 1);
  CHECK(refuses(moe::EveryExpert<double>(2)) ==
        "moe: dlogit: expected none for every expert, which cannot obey it, got a matrix");
}

TEST_CASE("no rows need nothing from outside", "[layer]") {
  using Layer = moe::MoeLayer<moe::RemixRouter<double>, Bank>;
  const Layer layer(remix(), bank());
  moe::Workspace workspace;
  Layer::Tape tape;
  moe::DrawCounter draws(1);
  Rows none(0, kWidth), dlogit(0, kExperts);
  moe::LayerInput<double> in(none);
  in.draws = &draws;
  moe::LayerOutput<double> out(none);
  layer.forward_train(in, out, tape, workspace);
  Layer::LayerGradients back;
  back.dy = none;
  back.dlogit = dlogit;
  layer.backward(tape, back, workspace);
}
