#include "moe/depth/depth_layer.hpp"

#include <array>
#include <cmath>
#include <limits>

#include "moe/router/kind/given.hpp"
#include "moe/router/named/expert_choice.hpp"
#include "moe/router/named/loss_free.hpp"
#include "moe/router/named/switch.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"
#include "support/depth_call.hpp"
#include "support/layer_laws.hpp"
#include "support/past_block.hpp"
#include "support/same_bits.hpp"

namespace {

using moe::DepthForm;
using moe::ExpertId;
using moe::Index;
using test::PastBlock;
using Columns = moe::ExpertChoice<double>;
using TopK = moe::SoftmaxTopK<double>;
using Rows = std::vector<double>;
static_assert(moe::TrainableRowBlock<PastBlock>);

Columns columns(double share, moe::NonFinite policy = moe::NonFinite::throw_) {
  return moe::expert_choice<double>(
      {.width = 3, .experts = 1, .capacity_factor = share, .non_finite = policy});
}
TopK top_k(Index experts, Index k) {
  return moe::softmax_top_k<double>({.width = 3, .experts = experts, .k = k});
}

/// h + w f(rows of h with a weight), a segment at a time: one step, written from the formula.
Rows by_hand(const Rows& h, const std::vector<Index>& ends, const std::vector<double>& weight,
             const PastBlock& block) {
  const auto width = static_cast<std::size_t>(block.width());
  Rows out = h;
  for (std::size_t s = 1; s < ends.size(); ++s) {
    Rows x;
    std::vector<Index> position, row;
    for (Index t = ends[s - 1]; t < ends[s]; ++t) {
      if (std::isnan(weight[static_cast<std::size_t>(t)])) continue;
      position.push_back(t - ends[s - 1]);
      row.push_back(t);
      for (std::size_t k = 0; k < width; ++k) x.push_back(h[static_cast<std::size_t>(t) * width + k]);
    }
    const Rows f = block(x, position);
    for (std::size_t i = 0; i < row.size(); ++i) {
      const auto t = static_cast<std::size_t>(row[i]);
      for (std::size_t k = 0; k < width; ++k) out[t * width + k] += weight[t] * f[i * width + k];
    }
  }
  return out;
}

constexpr double kOut = std::numeric_limits<double>::quiet_NaN();

/// The weight of every row for one expert, kOut where it has none.
std::vector<double> weights(const moe::RouteTable<double>& table, ExpertId expert) {
  std::vector<double> of(static_cast<std::size_t>(table.tokens), kOut);
  for (Index t = 0; t < table.tokens; ++t) {
    for (Index p = table.offsets[t]; p < table.offsets[t + 1]; ++p) {
      if (table.expert[p] == expert) of[static_cast<std::size_t>(t)] = table.weight[p];
    }
  }
  return of;
}

}  // namespace

TEST_CASE("depth layers of every form keep the laws of layers", "[depth][threads]") {
  test::check_layer(
      "one step, two blocks, two of three",
      [] {
        return moe::DepthLayer<TopK, PastBlock, PastBlock, PastBlock>(top_k(3, 2), PastBlock(3), PastBlock(3),
                                                                      PastBlock(3));
      },
      [] {
        return moe::DepthLayer<TopK, PastBlock, PastBlock, PastBlock>(
            moe::softmax_top_k<double>({.width = 4, .experts = 3, .k = 2}), PastBlock(4), PastBlock(4),
            PastBlock(4));
      });
  test::check_layer("three steps", [] {
    return moe::DepthLayer<TopK, PastBlock, PastBlock>({top_k(2, 1), top_k(2, 2), top_k(2, 1)}, {},
                                                       PastBlock(3), PastBlock(3));
  });
  test::check_layer("nested", [] {
    return moe::DepthLayer<Columns, PastBlock>({columns(0.9), columns(0.7), columns(0.5)},
                                               {DepthForm::nested}, PastBlock(3));
  });
  test::check_layer("times", [] {
    return moe::DepthLayer<moe::SwitchRouter<double>, PastBlock>(
        {moe::switch_router<double>({.width = 3, .experts = 3, .jitter = 0.1})}, {DepthForm::times},
        PastBlock(3));
  });
  test::check_layer("times from none", [] {
    return moe::DepthLayer<TopK, PastBlock>({top_k(3, 1)}, {DepthForm::times, 0}, PastBlock(3));
  });
}

TEST_CASE("each form is what its formula says, and rows that no block is chosen for keep their bits",
          "[depth][smoke]") {
  test::DepthCall call(9, 3, {0, 4, 4, 9});
  SECTION("steps") {
    moe::DepthLayer<TopK, PastBlock, PastBlock> layer({top_k(2, 1), top_k(2, 2)}, {}, PastBlock(3),
                                                      PastBlock(3, 0.5));
    test::draw_all_parameters(layer);
    const auto tape = call.train(layer);
    Rows h = call.x;
    for (Index s = 0; s < 2; ++s) {
      const Rows one = by_hand(h, call.ends, weights(tape.routes(s), 0), layer.block<0>());
      const Rows two = by_hand(h, call.ends, weights(tape.routes(s), 1), layer.block<1>());
      for (std::size_t i = 0; i < h.size(); ++i) h[i] = one[i] + (two[i] - h[i]);
    }
    for (std::size_t i = 0; i < h.size(); ++i) CHECK(std::abs(call.y[i] - h[i]) < 1e-14);
  }
  SECTION("nested") {
    moe::DepthLayer<Columns, PastBlock> layer({columns(0.8), columns(0.5), columns(0.5)}, {DepthForm::nested},
                                              PastBlock(3));
    test::draw_all_parameters(layer);
    moe::RouteStats counts, in_inference;
    call.out.stats = &in_inference;
    call.forward(layer);
    call.out.stats = &counts;
    const auto tape = call.train(layer);
    for (std::size_t s = 0; s < 3; ++s) {  // rows that the step's router saw
      CHECK(counts.layers[s].tokens == (s == 0 ? 9 : tape.routes(static_cast<Index>(s) - 1).pairs()));
      CHECK(in_inference.layers[s].tokens == counts.layers[s].tokens);
    }
    Rows h = call.x;
    for (Index s = 0; s < 3; ++s) {
      h = by_hand(h, call.ends, weights(tape.routes(s), 0), layer.block<0>());
      for (Index t = 0; s > 0 && t < 9; ++t) CHECK(tape.routes(s).count(t) <= tape.routes(s - 1).count(t));
    }
    CHECK(tape.routes(0).pairs() == 3 + 4);  // of 4 and 5 rows
    CHECK(tape.routes(1).pairs() == 1 + 2);
    CHECK(tape.routes(2).pairs() == 1 + 1);
    for (std::size_t i = 0; i < h.size(); ++i) CHECK(std::abs(call.y[i] - h[i]) < 1e-14);
    for (Index t = 0; t < 9; ++t) {
      if (tape.routes(0).count(t) == 0) CHECK(test::same_bits(call.row(call.y, t), call.row(call.x, t)));
    }
  }
  SECTION("times") {
    moe::DepthLayer<TopK, PastBlock> layer({top_k(3, 1)}, {DepthForm::times, 0}, PastBlock(3));
    test::draw_all_parameters(layer, 4);
    const auto tape = call.train(layer);
    Rows h = call.x;
    Index skipped = 0, twice = 0;
    for (Index s = 0; s < 2; ++s) {
      std::vector<double> weight(9, kOut);
      for (Index t = 0; t < 9; ++t) {
        const ExpertId passes = tape.routes().expert[t];
        if (passes > s) weight[static_cast<std::size_t>(t)] = passes == s + 1 ? tape.routes().weight[t] : 1;
        skipped += s == 0 && passes == 0 ? 1 : 0;
        twice += s == 0 && passes == 2 ? 1 : 0;
        if (passes == 0) CHECK(test::same_bits(call.row(call.y, t), call.row(call.x, t)));
      }
      h = by_hand(h, call.ends, weight, layer.block<0>());
    }
    CHECK((skipped > 0 && twice > 0 && skipped + twice < 9));
    for (std::size_t i = 0; i < h.size(); ++i) CHECK(std::abs(call.y[i] - h[i]) < 1e-14);
  }
}

TEST_CASE("a weight of 0 leaves a row's bits, and given routes are obeyed to the letter", "[depth]") {
  test::DepthCall call(3, 3, {0, 3});
  call.x[1] = -0.0;
  const std::array<ExpertId, 3> ids{0, 0, 0};
  const std::array<double, 3> w{0, 1, -0.5};
  const moe::DepthLayer<moe::GivenRoutes<double>, PastBlock> layer(
      moe::GivenRoutes<double>({ids.data(), 3, 1}, {w.data(), 3, 1}, 1), PastBlock(3));
  call.forward(layer);
  CHECK(test::same_bits(call.row(call.y, 0), call.row(call.x, 0)));
  const Rows want = by_hand(call.x, {0, 3}, {0, 1, -0.5}, layer.block());
  for (std::size_t i = 0; i < want.size(); ++i) CHECK(std::abs(call.y[i] - want[i]) < 1e-15);
}

TEST_CASE("a block that lives elsewhere is shared by layers, and its gradients add up", "[depth]") {
  test::DepthCall call(5, 3, {0, 5});
  PastBlock block(3);
  moe::DepthLayer<Columns, PastBlock&> first(columns(1), block), second(columns(0.6), block);
  moe::DepthLayer<Columns, PastBlock> apart(columns(0.6), block);
  CHECK(&second.block() == &first.block());
  const auto one = call.train(first);
  auto sum = call.backward(first, one);
  const Rows alone(std::get<0>(sum.blocks).a.begin(), std::get<0>(sum.blocks).a.end());
  const auto two = call.train(second);
  moe::Workspace workspace;
  moe::DepthLayer<Columns, PastBlock&>::LayerGradients back(call.view(call.dy), {});
  std::get<0>(back.blocks) = &std::get<0>(sum.blocks);
  second.backward(two, back, workspace, test::serial());
  const auto of_two = call.backward(apart, call.train(apart));
  for (Index i = 0; i < 9; ++i) {
    const double want = alone[static_cast<std::size_t>(i)] + std::get<0>(of_two.blocks).a[i];
    CHECK(std::abs(std::get<0>(sum.blocks).a[i] - want) < 1e-15);
  }
}

TEST_CASE("an isolated row is NaN, takes part in no later step, and the others do not see it",
          "[depth][smoke]") {
  moe::DepthLayer<Columns, PastBlock> layer(
      {columns(1, moe::NonFinite::isolate_row), columns(1, moe::NonFinite::isolate_row)}, {DepthForm::nested},
      PastBlock(3));
  test::draw_all_parameters(layer);
  test::DepthCall call(4, 3, {0, 4});
  call.x[4] = std::numeric_limits<double>::infinity();
  const auto tape = call.train(layer);
  call.backward(layer, tape);
  for (Index j = 0; j < 3; ++j) CHECK(std::isnan(call.row(call.y, 1)[static_cast<std::size_t>(j)]));
  CHECK(call.row(call.dx, 1) == Rows(3, 0));
  CHECK(tape.routes(1).count(1) == 0);
  test::DepthCall padded(4, 3, {0, 4});
  const std::array<bool, 4> valid{true, false, true, true};
  padded.in.valid = std::span<const bool>(valid);
  padded.train(layer);
  for (const Index t : std::array<Index, 3>{0, 2, 3})
    CHECK(test::same_bits(padded.row(padded.y, t), call.row(call.y, t)));
}

TEST_CASE("a call that a later step refuses leaves y, losses, draws and tape as they were", "[depth]") {
  test::DepthCall call(4, 3, {0, 4});
  moe::DepthLayer<Columns, PastBlock> layer({columns(1), columns(1)}, {DepthForm::nested}, PastBlock(3));
  test::draw_all_parameters(layer);
  auto heal = [](const moe::Parameter<double>& p) { p.value(0, 0) = 0.25; };
  layer.router(1).visit_parameters(nullptr, heal);
  auto tape = call.train(layer);
  const Rows y = call.y;
  call.backward(layer, tape);
  const Rows dx = call.dx;
  auto spoil = [](const moe::Parameter<double>& p) { p.value(0, 0) = std::nan(""); };
  layer.router(1).visit_parameters(nullptr, spoil);
  moe::Workspace workspace;
  call.x[0] += 1;
  CHECK_THROWS_AS(layer.forward_train(call.in, call.out, tape, workspace, test::serial()),
                  moe::numeric_error);
  CHECK(test::same_bits(call.y, y));
  CHECK(call.draws.calls() == 2);
  layer.router(1).visit_parameters(nullptr, heal);
  call.backward(layer, tape);
  CHECK(test::same_bits(call.dx, dx));  // the tape is that of the call before
}

TEST_CASE("depth layers refuse parts that do not fit, and calls that they cannot obey", "[depth]") {
  using Layer = moe::DepthLayer<TopK, PastBlock, PastBlock>;
  CHECK_THROWS_AS(Layer(top_k(3, 1), PastBlock(3), PastBlock(3)), moe::config_error);
  CHECK_THROWS_AS(Layer(top_k(2, 1), PastBlock(3), PastBlock(4)), moe::config_error);
  CHECK_THROWS_AS(Layer(top_k(2, 1), PastBlock(4), PastBlock(4)), moe::config_error);
  CHECK_THROWS_AS(Layer(std::vector<TopK>{}, {}, PastBlock(3), PastBlock(3)), moe::config_error);
  CHECK_THROWS_AS(Layer({top_k(2, 1)}, {DepthForm::times}, PastBlock(3), PastBlock(3)), moe::config_error);
  using Times = moe::DepthLayer<TopK, PastBlock>;
  CHECK_THROWS_AS(Times({top_k(2, 1), top_k(2, 1)}, {DepthForm::times}, PastBlock(3)), moe::config_error);
  CHECK_THROWS_AS(Times({top_k(2, 1)}, {DepthForm::times, 2}, PastBlock(3)), moe::config_error);
  CHECK_THROWS_AS(Times({top_k(1, 1)}, {DepthForm::times, 0}, PastBlock(3)), moe::config_error);
  test::DepthCall call(4, 3, {0, 4});
  CHECK_THROWS_AS(call.forward(Times({top_k(2, 2)}, {DepthForm::times}, PastBlock(3))), moe::config_error);
  const Layer layer({top_k(2, 1), top_k(2, 1)}, {}, PastBlock(3), PastBlock(3));
  call.in.router_x = call.view(call.x);
  CHECK_THROWS_AS(call.forward(layer), moe::config_error);
  call.in.router_x = {};
  call.in.segments = moe::Segments();
  CHECK_THROWS_AS(call.forward(layer), moe::config_error);
  call.in.segments = moe::Segments(std::span<const Index>(call.ends));
  const auto tape = call.train(layer);
  moe::Workspace workspace;
  Layer::LayerGradients back(call.view(call.dy), {});
  back.router_dx = moe::MatrixView<double>(call.dx.data(), 4, 3);
  CHECK_THROWS_AS(layer.backward(tape, back, workspace, test::serial()), moe::config_error);
  back.router_dx = {};
  back.dlogit = moe::ConstMatrixView<double>(call.x.data(), 4, 2);
  CHECK_THROWS_AS(layer.backward(tape, back, workspace, test::serial()), moe::config_error);
  CHECK(call.dx == Rows(12, 7));
  Layer moved(top_k(2, 1), PastBlock(3), PastBlock(3));
  const Layer taken = std::move(moved);
  CHECK_THROWS_AS(call.forward(moved), moe::state_error);  // NOLINT(bugprone-use-after-move)
}

TEST_CASE("counts of several routers are told apart, and each moves by its own at a step's end", "[depth]") {
  using Balanced = moe::LossFreeTopK<double>;
  const auto router = [](std::uint64_t seed) {
    Balanced r = moe::loss_free_top_k<double>({.width = 3, .experts = 2, .k = 1, .speed = 1});
    r.scorer().initialise(seed);
    return r;
  };
  const auto bias = [](const Balanced& of) {
    Rows all;
    const auto take = [&](const char*, const double* b, Index n) { all.assign(b, b + n); };
    of.visit_state(take);
    return all;
  };
  const auto moved = [&](Balanced r, const moe::RouteStats& stats) {
    r.on_step_end(stats);
    return bias(r);
  };
  moe::DepthLayer<Balanced, PastBlock, PastBlock> layer({router(1), router(2)}, {}, PastBlock(3),
                                                        PastBlock(3, 0.5));
  test::DepthCall call(9, 3, {0, 9});
  moe::RouteStats stats;
  call.out.stats = &stats;
  const auto tape = call.train(layer);
  REQUIRE(stats.layers.size() == 2);
  for (Index s = 0; s < 2; ++s) {
    moe::RouteStats own;
    own.add(tape.routes(s), moe::DispatchPlan<double>{}, nullptr);
    const moe::RouteStats& counted = stats.layers[static_cast<std::size_t>(s)];
    CHECK((counted.tokens == 9 && counted.load[0] == own.load[0] && counted.load[1] == own.load[1]));
  }
  CHECK(stats.load[0] == stats.layers[0].load[0] + stats.layers[1].load[0]);
  layer.on_step_end(stats);
  CHECK(bias(layer.router(0)) == moved(router(1), stats.layers[0]));
  CHECK(bias(layer.router(1)) == moved(router(2), stats.layers[1]));

  stats.layers.clear();
  moe::DepthLayer<Balanced, PastBlock, PastBlock> again({router(1), router(2)}, {}, PastBlock(3),
                                                        PastBlock(3));
  again.on_step_end(stats);
  CHECK(bias(again.router(1)) == moved(router(2), stats));
  stats.layers.resize(3);
  CHECK_THROWS_AS(again.on_step_end(stats), moe::shape_error);
}
