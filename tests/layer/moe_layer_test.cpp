// The layer's interface: Eigen types of every kind at its edge, separate router rows, frozen parts, reused
// tapes, exact workspaces. What its numbers must be is tested in tests/proof.
#include "moe/layer/moe_layer.hpp"

#include <Eigen/Core>
#include <limits>
#include <thread>
#include <unsupported/Eigen/CXX11/Tensor>
#include <vector>

#include "moe/executor/pool.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/frame/latent.hpp"
#include "moe/layer/shared/none.hpp"
#include "moe/layer/shared/shared_experts.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/router/named/expert_choice.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"

namespace {

using moe::Index;
using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Router = moe::SoftmaxTopK<double>;
using Bank = moe::Glu<moe::Silu, double>;
using Layer = moe::MoeLayer<Router, Bank>;

constexpr Index kTokens = 12, kWidth = 10;

Router router() {
  Router r = moe::softmax_top_k<double>({.width = kWidth, .experts = 5, .k = 2, .load_balance = 0.5});
  r.scorer().initialise(4, 2);
  return r;
}
Bank bank() {
  Bank b({.experts = 5, .width = kWidth, .hidden = 7});
  b.initialise(5);
  return b;
}

Rows forward(const Layer& layer, const Rows& x) {
  Rows y(x.rows(), x.cols());
  moe::LayerOutput<double> out(y);
  moe::Workspace workspace;
  layer.forward(x, out, workspace);
  return y;
}

/// All gradients of a layer, in the order of its storage.
template <class L>
std::vector<double> flat(L& layer, typename L::Gradients& gradients) {
  std::vector<double> all;
  layer.visit_storage(gradients,
                      [&](const char*, double*, double* g, Index n) { all.insert(all.end(), g, g + n); });
  return all;
}

}  // namespace

TEST_CASE("rows may be a Matrix, Map, Ref, Block or TensorMap, with any stride and alignment",
          "[layer][smoke]") {
  const Layer layer(router(), bank());
  const Rows x = Rows::Random(kTokens, kWidth);
  const Rows want = forward(layer, x);
  moe::Workspace workspace;

  std::vector<double> loose(static_cast<std::size_t>(kTokens * 13 + 1), -1), loose_y(loose);
  using Strided = Eigen::Map<Rows, Eigen::Unaligned, Eigen::OuterStride<>>;
  Strided map(loose.data() + 1, kTokens, kWidth, Eigen::OuterStride<>(13));
  Strided map_y(loose_y.data() + 1, kTokens, kWidth, Eigen::OuterStride<>(13));
  map = x;
  moe::LayerOutput<double> strided(map_y);
  layer.forward(map, strided, workspace);
  CHECK(Rows(map_y) == want);
  CHECK(loose_y[0] == -1);
  for (Index t = 0; t + 1 < kTokens; ++t) CHECK(loose_y[static_cast<std::size_t>(1 + t * 13 + kWidth)] == -1);

  Rows big = Rows::Zero(kTokens + 2, kWidth + 3), big_y = big;
  big.block(1, 2, kTokens, kWidth) = x;
  Eigen::Ref<Rows, 0, Eigen::OuterStride<>> ref(big.block(1, 2, kTokens, kWidth));
  moe::LayerOutput<double> block(big_y.block(1, 2, kTokens, kWidth));
  layer.forward(ref, block, workspace);
  CHECK(Rows(big_y.block(1, 2, kTokens, kWidth)) == want);
  CHECK(big_y.row(0).isZero(0));
  CHECK(big_y.col(1).isZero(0));

  Eigen::TensorMap<Eigen::Tensor<const double, 3, Eigen::RowMajor>> tensor(x.data(), 3, 4, kWidth);
  Rows y(kTokens, kWidth);
  Eigen::TensorMap<Eigen::Tensor<double, 3, Eigen::RowMajor>> tensor_y(y.data(), 3, 4, kWidth);
  moe::LayerOutput<double> cube(tensor_y);
  layer.forward(tensor, cube, workspace);
  CHECK(y == want);
}

TEST_CASE("the sequences of a tensor are its segments", "[layer][smoke]") {
  auto choice = moe::expert_choice<double>({.width = kWidth, .experts = 5, .capacity_factor = 1});
  choice.scorer().initialise(4, 2);
  const moe::MoeLayer layer(std::move(choice), bank());
  Rows x = Rows::Random(kTokens, kWidth), y(kTokens, kWidth), other(kTokens, kWidth);
  moe::Workspace workspace;
  const auto run = [&](Rows& result) {
    Eigen::TensorMap<Eigen::Tensor<const double, 3, Eigen::RowMajor>> tensor(x.data(), 2, 6, kWidth);
    moe::LayerOutput<double> out(result);
    layer.forward(tensor, out, workspace);
  };
  run(y);
  x.bottomRows(6).setRandom();
  run(other);
  CHECK(other.topRows(6) == y.topRows(6));
  CHECK(other.bottomRows(6) != y.bottomRows(6));
}

TEST_CASE("the router may read other rows than the experts", "[layer]") {
  const Layer layer(router(), bank());
  const Rows x = Rows::Random(kTokens, kWidth), c = Rows::Random(kTokens, kWidth);
  Rows seen = Rows::Random(kTokens, kWidth), y(kTokens, kWidth), dx(kTokens, kWidth), dseen = dx;
  moe::Workspace workspace;
  Layer::Tape tape;
  const auto loss = [&](const Rows& rows) {
    moe::LayerInput<double> in(rows);
    in.router_x = seen;
    moe::LayerOutput<double> out(y);
    layer.forward_train(in, out, tape, workspace);
    return y.cwiseProduct(c).sum() + out.losses.total();
  };
  loss(x);
  Layer::LayerGradients back(c, dx);
  back.router_dx = dseen;
  layer.backward(tape, back, workspace);
  Rows moved = x;
  for (const Index i : {0, 37, 119}) {
    const double h = 1e-6, old = seen.data()[i];
    seen.data()[i] = old + h;
    const double up = loss(x);
    seen.data()[i] = old - h;
    const double down = loss(x);
    seen.data()[i] = old;
    CHECK(std::abs((up - down) / (2 * h) - dseen.data()[i]) < 1e-8);
    moved.data()[i] += h;
    const double right = loss(moved);
    moved.data()[i] -= 2 * h;
    CHECK(std::abs((right - loss(moved)) / (2 * h) - dx.data()[i]) < 1e-8);
    moved.data()[i] += h;
  }
  // Without separate rows there is no such gradient.
  moe::LayerOutput<double> out(y);
  layer.forward_train(x, out, tape, workspace);
  CHECK_THROWS_AS(layer.backward(tape, back, workspace), moe::config_error);
}

TEST_CASE("rows for the router that begin where x begins are its own all the same", "[layer]") {
  Rows all = Rows::Random(2 * kTokens, kWidth);
  moe::SoftmaxTopK<double> narrow = moe::softmax_top_k<double>({.width = 3, .experts = 5, .k = 2});
  narrow.scorer().initialise(4);
  const Layer wide(router(), bank()), reads_three(std::move(narrow), bank());
  moe::Workspace workspace;
  const auto run = [&](const Layer& layer, moe::ConstMatrixView<double> x,
                       moe::ConstMatrixView<double> router_x) {
    moe::LayerInput in(x);
    in.router_x = router_x;
    Rows y(kTokens, kWidth), trained_y(kTokens, kWidth), dx(kTokens, kWidth);
    Rows results(kTokens, kWidth + router_x.cols), router_dx(kTokens, router_x.cols);
    moe::LayerOutput out(y), trained(trained_y);
    layer.forward(in, out, workspace);
    Layer::Tape tape;
    layer.forward_train(in, trained, tape, workspace);
    CHECK(y == trained_y);
    Layer::LayerGradients back(y, dx);
    back.router_dx = router_dx;
    layer.backward(tape, back, workspace);
    results << dx, router_dx;
    return results;
  };
  const Rows x = all.topRows(kTokens), left = x.leftCols(3);
  const moe::ConstMatrixView<double> second_rows(all.data(), kTokens, kWidth, 2 * kWidth);
  Rows copy(kTokens, kWidth);
  for (Index t = 0; t < kTokens; ++t) copy.row(t) = all.row(2 * t);
  CHECK(run(wide, all.topRows(kTokens), second_rows) == run(wide, x, copy));
  CHECK(run(wide, second_rows, all.topRows(kTokens)) == run(wide, copy, x));
  CHECK(run(reads_three, x, x.leftCols(3)) == run(reads_three, x, left));
}

TEST_CASE("a row that is spoiled reaches no gradient of shared experts", "[layer][smoke]") {
  Router isolating = router();
  isolating.set_non_finite(moe::NonFinite::isolate_row);
  Bank shared_bank({.experts = 1, .width = kWidth, .hidden = 3});
  shared_bank.initialise(6);
  moe::MoeLayer layer(isolating, bank(), moe::Dropless{}, moe::SharedExperts(std::move(shared_bank)));
  using Shared = decltype(layer);
  Rows x = Rows::Random(kTokens, kWidth), y(kTokens, kWidth), dx(kTokens, kWidth);
  const Rows dy = Rows::Random(kTokens, kWidth);
  moe::Workspace workspace;
  const auto gradients_of = [&](const moe::LayerInput<double>& in) {
    moe::LayerOutput<double> out(y);
    Shared::Tape tape;
    layer.forward_train(in, out, tape, workspace);
    auto gradients = layer.make_gradients();
    Shared::LayerGradients back(dy, dx, gradients);
    layer.backward(tape, back, workspace);
    return flat(layer, gradients);
  };
  bool valid[kTokens];
  for (Index t = 0; t < kTokens; ++t) valid[t] = t != 4;
  moe::LayerInput<double> padded(x);
  padded.valid = valid;
  const std::vector<double> want = gradients_of(padded);
  x(4, 1) = std::numeric_limits<double>::quiet_NaN();
  CHECK(gradients_of(x) == want);
  CHECK(dx.row(4) == Rows::Zero(1, kWidth).row(0));
}

TEST_CASE("rows for the router must not lie in y", "[layer][smoke]") {
  const Layer layer(router(), bank());
  const Rows x = Rows::Random(kTokens, kWidth);
  Rows y = Rows::Random(kTokens, kWidth);
  const Rows before = y;
  moe::LayerInput<double> in(x);
  in.router_x = y;
  moe::LayerOutput<double> out(y);
  moe::Workspace workspace;
  CHECK_THROWS_WITH(layer.forward(in, out, workspace), Catch::Matchers::Contains("router_x"));
  CHECK(y == before);
}

TEST_CASE("frozen parts stay, the others get the same gradients", "[layer]") {
  Layer layer(router(), bank());
  const Rows x = Rows::Random(kTokens, kWidth);
  Rows y(kTokens, kWidth), dx(kTokens, kWidth), dx_frozen = dx;
  moe::LayerOutput<double> out(y);
  moe::Workspace workspace;
  Layer::Tape tape;
  layer.forward_train(x, out, tape, workspace);
  auto all = layer.make_gradients(), router_only = layer.make_gradients();
  Layer::LayerGradients full(x, dx, all);
  layer.backward(tape, full, workspace);
  Layer::LayerGradients frozen(x, dx_frozen);
  frozen.router = &router_only.router;
  layer.backward(tape, frozen, workspace);
  CHECK(dx == dx_frozen);
  auto nothing = layer.make_gradients();
  std::swap(all.experts, nothing.experts);
  CHECK(flat(layer, all) == flat(layer, router_only));
  // Gradients are added to, dx is overwritten.
  layer.backward(tape, frozen, workspace);
  CHECK(dx == dx_frozen);
  const std::vector<double> once = flat(layer, all), twice = flat(layer, router_only);
  for (std::size_t i = 0; i < once.size(); ++i) CHECK(twice[i] == 2 * once[i]);
  layer.zero_gradients(router_only);
  for (const double g : flat(layer, router_only)) CHECK(g == 0);
  // dx may be absent.
  Layer::LayerGradients no_dx(x, {}, nothing);
  CHECK_NOTHROW(layer.backward(tape, no_dx, workspace));
}

TEST_CASE("a tape owns what it needs and is reused", "[layer][smoke]") {
  Layer layer(router(), bank());
  Rows x = Rows::Random(kTokens, kWidth), y(kTokens, kWidth), dx(kTokens, kWidth), again = dx;
  const Rows dy = Rows::Random(kTokens, kWidth);
  moe::LayerOutput<double> out(y);
  moe::Workspace workspace;
  Layer::Tape tape, other;
  layer.forward_train(x, out, tape, workspace);
  CHECK(tape.tokens() == kTokens);
  CHECK(tape.routes().pairs() == 2 * kTokens);
  Layer::LayerGradients back(dy, dx);
  layer.backward(tape, back, workspace);
  const Rows kept = x;
  x.setConstant(1e9);  // the caller's rows are not needed any more
  Layer::LayerGradients second(dy, again);
  layer.backward(tape, second, workspace);
  CHECK(again == dx);
  // Larger, then smaller: no trace of the earlier calls.
  const Rows large = Rows::Random(50, kWidth);
  Rows large_y(50, kWidth);
  moe::LayerOutput<double> large_out(large_y);
  layer.forward_train(large, large_out, tape, workspace);
  layer.forward_train(kept, out, tape, workspace);
  layer.backward(tape, second, workspace);
  CHECK(again == dx);
}

TEST_CASE("a workspace of exactly workspace_bytes is enough for every call", "[layer][smoke]") {
  const moe::MoeLayer layer(router(), Bank({.experts = 5, .width = 6, .hidden = 7}), moe::Dropless{},
                            moe::NoShared{}, moe::LatentFrame<double>(kWidth, 6));
  using Latent = std::remove_const_t<decltype(layer)>;
  for (const Index tokens : {0, 1, 12, 77}) {
    for (const Index threads : {1, 3}) {
      const Rows x = Rows::Random(tokens, kWidth);
      Rows y(tokens, kWidth), dx(tokens, kWidth);
      moe::PoolExecutor pool(threads);
      std::vector<std::byte> memory(
          static_cast<std::size_t>(layer.workspace_bytes(tokens, moe::Mode::training, threads)) + 1);
      moe::Workspace workspace{std::span(memory.data() + 1, memory.size() - 1)};  // misaligned
      Latent::Tape tape;
      moe::LayerOutput<double> out(y);
      CHECK_NOTHROW(layer.forward(x, out, workspace, pool));
      CHECK_NOTHROW(layer.forward_train(x, out, tape, workspace, pool));
      auto gradients = layer.make_gradients();
      Latent::LayerGradients back(x, dx, gradients);
      CHECK_NOTHROW(layer.backward(tape, back, workspace, pool));
    }
  }
}

TEST_CASE("const calls may run at the same time", "[layer][threads]") {
  const Layer layer(router(), bank());
  const Rows x = Rows::Random(kTokens, kWidth);
  const Rows want = forward(layer, x);
  std::vector<Rows> results(4);
  std::vector<std::thread> callers;
  for (Rows& result : results) {
    callers.emplace_back([&] {
      for (int i = 0; i < 20; ++i) result = forward(layer, x);
    });
  }
  for (std::thread& caller : callers) caller.join();
  for (const Rows& result : results) CHECK(result == want);
}

TEST_CASE("parts that do not fit are refused", "[layer][smoke]") {
  CHECK_THROWS_AS(Layer(router(), Bank({.experts = 4, .width = kWidth, .hidden = 7})), moe::config_error);
  CHECK_THROWS_AS((moe::MoeLayer(router(), bank(), moe::Dropless{},
                                 moe::SharedExperts(Bank({.experts = 1, .width = 9, .hidden = 3})))),
                  moe::config_error);
  CHECK_THROWS_AS((moe::MoeLayer(router(), bank(), moe::Dropless{}, moe::NoShared{},
                                 moe::LatentFrame<double>(kWidth, 6))),
                  moe::config_error);
}
