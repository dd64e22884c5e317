// One test per row of the table in docs/contracts.md: the exception's type, what its message names, and that
// nothing was written.
#include <Eigen/Core>
#include <cmath>
#include <limits>

#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/forward_experts.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "moe/router/hash_table.hpp"
#include "moe/router/kind/hash.hpp"
#include "moe/router/named/expert_choice.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace {

using moe::Index;
using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Router = moe::SoftmaxTopK<float>;
using Experts = moe::Glu<moe::Silu, float>;
using Layer = moe::MoeLayer<Router, Experts>;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

Router router(Index k = 2, moe::NonFinite policy = moe::NonFinite::throw_) {
  Router r = moe::softmax_top_k<float>({.width = 6, .experts = 4, .k = k, .non_finite = policy});
  r.scorer().initialise(1);
  return r;
}
Experts experts() {
  Experts e({.experts = 4, .width = 6, .hidden = 5});
  e.initialise(2);
  return e;
}

/// A call with everything it could write to; `rejects` makes it and looks at all of that afterwards.
struct Call {
  Rows x = Rows::Random(5, 6), y = Rows::Constant(5, 6, 7), dy = Rows::Ones(5, 6),
       dx = Rows::Constant(5, 6, 8);
  moe::RouteStats stats;
  moe::Workspace workspace;
  Layer::Tape tape;

  template <class Error, class F>
  std::string rejects(F&& call) {
    const std::string message = test::message_of<Error>(call);
    CHECK((y.array() == 7).all());
    CHECK((dx.array() == 8).all());
    CHECK(stats.tokens == 0);
    CHECK(stats.experts() == 0);
    return message;
  }
  template <class Error, class L, class Change>
  std::string rejects_input(const L& layer, Change&& change) {
    return rejects<Error>([&] {
      moe::LayerInput<float> in(x);
      change(in);
      moe::LayerOutput<float> out(y, &stats);
      layer.forward(in, out, workspace);
    });
  }
};

/// Every matrix with a number that `Storage` cannot round: refused by name, and no weight has changed.
template <class Storage>
void check_refused_weights(float bad, const std::string& limit, const std::string& shown) {
  INFO("storage of up to " << limit << ", number " << shown);
  moe::Glu<moe::Silu, Storage> bank({.experts = 2, .width = 6, .hidden = 5});
  bank.initialise(1);
  Rows kept[] = {Rows(5, 6), Rows(5, 6), Rows(6, 5)}, after[] = {Rows(5, 6), Rows(5, 6), Rows(6, 5)};
  bank.unpack(1, kept[0], kept[1], kept[2]);
  const char* const names[] = {"gate", "up", "down"};
  for (const Index m : {0, 1, 2}) {
    Rows w[] = {Rows::Random(5, 6), Rows::Random(5, 6), Rows::Random(6, 5)};
    w[m](3, 4) = bad;
    CHECK(test::message_of<moe::numeric_error>([&] { bank.load(1, w[0], w[1], w[2]); }) ==
          std::string("moe: ") + names[m] + ": expected numbers of magnitude up to " + limit +
              " to round, got " + shown + " in row 3, column 4");
    bank.unpack(1, after[0], after[1], after[2]);
    for (const Index i : {0, 1, 2}) CHECK(after[i] == kept[i]);
  }
}

}  // namespace

TEST_CASE("bad input: widths and shapes", "[proof][smoke]") {
  Call call;
  const Layer layer(router(), experts());
  const Rows narrow = Rows::Random(5, 5), few = Rows::Random(4, 6);
  CHECK(call.rejects_input<moe::shape_error>(layer, [&](auto& in) { in.x = narrow; }) ==
        "moe: x: expected 6 columns, got 5");
  CHECK(call.rejects_input<moe::shape_error>(layer, [&](auto& in) { in.x = few; }) ==
        "moe: y: expected a matrix of 4 x 6, got 5 x 6");
  CHECK(call.rejects_input<moe::shape_error>(layer, [&](auto& in) { in.router_x = few; }) ==
        "moe: router_x: expected 5 rows, got 4");
  CHECK(call.rejects_input<moe::shape_error>(layer, [&](auto& in) { in.router_x = narrow; }) ==
        "moe: router_x: expected 6 columns, got 5");
  const bool valid[3] = {true, true, true};
  CHECK(call.rejects_input<moe::shape_error>(layer, [&](auto& in) { in.valid = valid; }) ==
        "moe: valid: expected 5 entries, got 3");
  const std::uint64_t keys[6] = {};
  CHECK(call.rejects_input<moe::shape_error>(layer, [&](auto& in) { in.row_key = keys; }) ==
        "moe: row_key: expected 5 entries, got 6");
  const Rows mask = Rows::Zero(1, 3), rows_mask = Rows::Zero(2, 4);
  CHECK(call.rejects_input<moe::shape_error>(layer, [&](auto& in) { in.logit_mask = mask; }) ==
        "moe: logit_mask: expected 4 columns, got 3");
  CHECK(call.rejects_input<moe::shape_error>(layer, [&](auto& in) { in.logit_mask = rows_mask; }) ==
        "moe: logit_mask: expected 5 rows (or 1), got 2");
  const double counts[3] = {};
  CHECK(call.rejects_input<moe::shape_error>(layer, [&](auto& in) { in.outside_counts = counts; }) ==
        "moe: outside_counts: expected 4 entries, got 3");
}

TEST_CASE("bad input: no tokens is valid", "[proof][smoke]") {
  const Layer layer(router(), experts());
  Rows none(0, 6), y(0, 6), dx(0, 6);
  moe::RouteStats stats;
  moe::LayerOutput<float> out(y, &stats);
  moe::Workspace workspace;
  CHECK_NOTHROW(layer.forward(none, out, workspace));
  CHECK(stats.pairs() == 0);
  Layer::Tape tape;
  CHECK_NOTHROW(layer.forward_train(none, out, tape, workspace));
  auto gradients = layer.make_gradients();
  Layer::LayerGradients back(none, dx, gradients);
  CHECK_NOTHROW(layer.backward(tape, back, workspace));
}

TEST_CASE("bad input: K and E", "[proof][smoke]") {
  CHECK(test::message_of<moe::config_error>([] { router(5); }) ==
        "moe: experts per token: expected K in [1, 4] (the router's outputs), got 5");
  CHECK(test::message_of<moe::config_error>([] { router(0); }) ==
        "moe: experts per token: expected a value in [1, 2147483647], got 0");
  CHECK_THROWS_AS(moe::softmax_top_k<float>({.width = 6, .experts = 0, .k = 1}), moe::config_error);
  CHECK(test::message_of<moe::config_error>([] { Experts({.experts = 0, .width = 6, .hidden = 5}); }) ==
        "moe: experts: expected a value in [1, 2147483647], got 0");
  Call call;
  const Layer layer(router(), experts());
  CHECK(call.rejects_input<moe::config_error>(layer, [](auto& in) { in.options.experts_per_token = 5; }) ==
        "moe: experts per token: expected K in [1, 4] (the router's outputs), got 5");
  CHECK_THROWS_AS(Layer(router(), Experts({.experts = 3, .width = 6, .hidden = 5})), moe::config_error);
}

TEST_CASE("bad input: capacity", "[proof][smoke]") {
  CHECK(test::message_of<moe::config_error>([] { moe::FixedCapacity({.tokens_per_expert = 0}); }) ==
        "moe: capacity: expected tokens_per_expert >= 1 or a factor > 0, got tokens_per_expert 0");
  CHECK_THROWS_AS(moe::FixedCapacity({.tokens_per_expert = -1}), moe::config_error);
  CHECK_THROWS_AS(moe::FixedCapacity({.factor = -0.5}), moe::config_error);
  CHECK_THROWS_AS(moe::FixedCapacity({.factor = std::nan("")}), moe::config_error);
  // More places than tokens: nothing is dropped. Expert choice cannot take a token twice: an error there.
  Call call;
  const Index ends[] = {0, 5};
  const moe::MoeLayer roomy(router(), experts(), moe::FixedCapacity({.tokens_per_expert = 1000}));
  moe::LayerInput<float> in(call.x);
  in.segments = moe::Segments(ends);
  moe::LayerOutput<float> out(call.y, &call.stats);
  roomy.forward(in, out, call.workspace);
  CHECK(call.stats.dropped == 0);
  CHECK(call.stats.pairs() == 10);
  CHECK_THROWS_AS(moe::expert_choice<float>({.width = 6, .experts = 4, .capacity_factor = 0}),
                  moe::config_error);
  CHECK(test::message_of<moe::config_error>([] {
          moe::expert_choice<float>({.width = 6, .experts = 4, .capacity_factor = 4.5});
        }) == "moe: capacity factor: expected a value in (0, 4] (experts per token on average), got 4.5");
}

TEST_CASE("bad input: routes handed in", "[proof][smoke]") {
  Call call;
  const Experts bank = experts();
  Eigen::Matrix<moe::ExpertId, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> ids(5, 2);
  ids << 0, 1, 1, 2, 2, 3, 3, 0, 0, 2;
  Rows weights = Rows::Constant(5, 2, 0.5f);
  const auto message = [&](auto error) {
    return call.rejects<decltype(error)>(
        [&] { moe::forward_experts(bank, call.x, ids, weights, call.y, call.workspace); });
  };
  ids(3, 1) = -1;
  CHECK(message(moe::route_error("")) == "moe: expert ids: expected ids in [0, 4), got -1 for token 3");
  ids(3, 1) = 4;
  CHECK(message(moe::route_error("")) == "moe: expert ids: expected ids in [0, 4), got 4 for token 3");
  ids(3, 1) = 3;
  CHECK(message(moe::route_error("")) ==
        "moe: expert ids: expected each expert at most once per token, got 3 twice for token 3");
  ids(3, 1) = 0;
  weights(2, 1) = kNan;
  CHECK(message(moe::numeric_error("")) ==
        "moe: combine weights: expected finite values, got nan for token 2, expert 3");
  weights(2, 1) = -kInf;
  CHECK(message(moe::numeric_error("")) ==
        "moe: combine weights: expected finite values, got -inf for token 2, expert 3");
  const Rows other = Rows::Zero(4, 2);
  CHECK_THROWS_AS(moe::forward_experts(bank, call.x, ids, other, call.y, call.workspace), moe::shape_error);
  weights(2, 1) = 0.5f;
  CHECK_NOTHROW(moe::forward_experts(bank, call.x, ids, weights, call.y, call.workspace));
}

TEST_CASE("bad input: logits that are not numbers", "[proof][smoke]") {
  Call call;
  const Layer layer(router(), experts());
  call.x(3, 2) = kNan;
  CHECK(call.rejects_input<moe::numeric_error>(layer, [](auto&) {}) ==
        "moe: logits: expected finite values or -inf (masked), got nan for token 3, expert 0; "
        "NonFinite::isolate_row confines it to its row");
  call.x(3, 2) = 0;
  Rows mask = Rows::Zero(5, 4);
  mask(1, 2) = kInf;
  CHECK(call.rejects_input<moe::numeric_error>(layer, [&](auto& in) { in.logit_mask = mask; }) ==
        "moe: logits: expected finite values or -inf (masked), got inf for token 1, expert 2; "
        "NonFinite::isolate_row confines it to its row");
  mask.row(1).setConstant(-kInf);
  CHECK(call.rejects_input<moe::numeric_error>(layer, [&](auto& in) { in.logit_mask = mask; }) ==
        "moe: logits: expected at least one unmasked expert, got all -inf for token 1; "
        "NonFinite::isolate_row confines it to its row");

  // The other option: that row alone is NaN, the others as without it.
  const Layer isolating(router(2, moe::NonFinite::isolate_row), experts());
  Rows clean(5, 6);
  moe::LayerOutput<float> out(clean);
  isolating.forward(call.x, out, call.workspace);
  moe::LayerInput<float> in(call.x);
  in.logit_mask = mask;
  moe::LayerOutput<float> spoiled(call.y, &call.stats);
  isolating.forward(in, spoiled, call.workspace);
  CHECK(call.y.row(1).array().isNaN().all());
  for (const Index t : {0, 2, 3, 4}) CHECK(call.y.row(t) == clean.row(t));
  CHECK(call.stats.spoiled == 1);
  CHECK(call.stats.tokens == 4);
}

TEST_CASE("bad input: overlapping matrices", "[proof][smoke]") {
  const Layer layer(router(), experts());
  Rows both = Rows::Random(9, 6);
  const Rows before = both;
  moe::Workspace workspace;
  const auto message = test::message_of<moe::shape_error>([&] {
    moe::LayerOutput<float> out(both.bottomRows(5));
    layer.forward(both.topRows(5), out, workspace);
  });
  CHECK(message ==
        "moe: y: expected memory apart from x, got overlapping matrices; give the output its own storage");
  CHECK(both == before);
}

TEST_CASE("bad input: workspace too small", "[proof][smoke]") {
  Call call;
  const Layer layer(router(), experts());
  const auto needed = static_cast<std::size_t>(layer.workspace_bytes({.tokens = 5}));
  std::vector<std::byte> memory(needed);
  moe::Workspace small{std::span(memory.data(), needed - 1)}, enough{std::span(memory)};
  const std::string message = call.rejects<moe::workspace_error>([&] {
    moe::LayerOutput<float> out(call.y, &call.stats);
    layer.forward(call.x, out, small);
  });
  CHECK(message == "moe: workspace: expected at least " + std::to_string(needed) + " bytes, got " +
                       std::to_string(needed - 1) + "; ask workspace_bytes()");
  moe::LayerOutput<float> out(call.y);
  CHECK_NOTHROW(layer.forward(call.x, out, enough));
}

TEST_CASE("bad input: tapes and gradients", "[proof][smoke]") {
  Call call;
  Layer layer(router(), experts());
  auto gradients = layer.make_gradients();
  const auto backward = [&](auto error, const Rows& dy, Rows& dx) {
    return call.rejects<decltype(error)>([&] {
      Layer::LayerGradients back(dy, dx, gradients);
      layer.backward(call.tape, back, call.workspace);
    });
  };
  CHECK(backward(moe::state_error(""), call.dy, call.dx) ==
        "moe: tape: expected a tape of a finished forward_train, got an empty one");
  Rows y(5, 6);
  moe::LayerOutput<float> out(y);
  layer.forward_train(call.x, out, call.tape, call.workspace);
  const Rows four = Rows::Ones(4, 6), narrow = Rows::Ones(5, 5);
  Rows four_dx = Rows::Constant(4, 6, 8);
  CHECK(backward(moe::state_error(""), four, call.dx) ==
        "moe: tape: expected the tape of a call with 4 rows (as dy has), got one of 5");
  CHECK(backward(moe::shape_error(""), narrow, call.dx) == "moe: dy: expected a matrix of 5 x 6, got 5 x 5");
  CHECK(backward(moe::shape_error(""), call.dy, four_dx) == "moe: dx: expected a matrix of 5 x 6, got 4 x 6");
  CHECK((four_dx.array() == 8).all());
  const Rows dy = call.dy;
  CHECK(test::message_of<moe::shape_error>([&] {
          Layer::LayerGradients back(call.dy, call.dy, gradients);
          layer.backward(call.tape, back, call.workspace);
        }) ==
        "moe: dx: expected memory apart from dy, got overlapping matrices; give the output its own storage");
  CHECK(call.dy == dy);
  layer.visit_storage(gradients, [](const char*, float*, float* g, Index n) {
    for (Index i = 0; i < n; ++i) CHECK(g[i] == 0);
  });
}

TEST_CASE("bad input: segments", "[proof][smoke]") {
  Call call;
  const Layer layer(router(), experts());
  const Index falling[] = {0, 3, 2, 5}, late[] = {1, 5}, early[] = {0, 4};
  const auto message = [&](std::span<const Index> offsets) {
    return call.rejects_input<moe::shape_error>(layer,
                                                [&](auto& in) { in.segments = moe::Segments(offsets); });
  };
  CHECK(message(falling) == "moe: segments: expected ascending offsets, got 2 after 3 at position 2");
  CHECK(message(late) == "moe: segments: expected the first offset to be 0, got 1");
  CHECK(message(early) == "moe: segments: expected the last offset to be 5 rows, got 4");
  const moe::MoeLayer coupled(moe::expert_choice<float>({.width = 6, .experts = 4}), experts());
  CHECK(call.rejects_input<moe::config_error>(coupled, [](auto&) {}) ==
        "moe: segments: expected one segment per request, got none; this layer couples tokens, so without "
        "segments one "
        "request could change another's result");
}

TEST_CASE("bad input: token ids of a hash router", "[proof][smoke]") {
  Call call;
  const moe::MoeLayer layer(moe::HashRouter<float>(moe::HashTable::random(100, 4, 1)), experts());
  CHECK(call.rejects_input<moe::config_error>(layer, [](auto&) {}) ==
        "moe: token_id: expected 5 vocabulary ids, got none");
  const moe::TokenId ids[] = {0, 1, 100, 3, 4}, negative[] = {0, 1, 2, 3, -4};
  CHECK(call.rejects_input<moe::route_error>(layer, [&](auto& in) { in.token_id = ids; }) ==
        "moe: token_id: expected ids in [0, 100), got 100 for token 2");
  CHECK(call.rejects_input<moe::route_error>(layer, [&](auto& in) { in.token_id = negative; }) ==
        "moe: token_id: expected ids in [0, 100), got -4 for token 4");
}

TEST_CASE("bad input: sizes whose product overflows", "[proof][smoke]") {
  constexpr Index kHuge = Index{1} << 40;
  CHECK_THROWS_AS(Experts({.experts = 4, .width = kHuge, .hidden = kHuge}), moe::size_error);
  float number = 0;
  CHECK_THROWS_AS(moe::ConstMatrixView<float>(&number, kHuge, kHuge), moe::size_error);
  const Layer layer(router(), experts());
  CHECK_THROWS_AS(layer.workspace_bytes({.tokens = PTRDIFF_MAX / 4}), moe::size_error);
}

TEST_CASE("bad input: weights that a block storage cannot round", "[proof][smoke]") {
  for (const auto& [bad, shown] :
       {std::pair(kNan, "nan"), std::pair(kInf, "inf"), std::pair(-kInf, "-inf")}) {
    check_refused_weights<moe::BFloat16>(bad, "3.38953e+38", shown);
    check_refused_weights<moe::Int8Groups<>>(bad, "3.38953e+38", shown);
    check_refused_weights<moe::Int4Groups<>>(bad, "3.38953e+38", shown);
  }
  check_refused_weights<moe::Int8Groups<moe::Float16>>(1e7f, "8.31901e+06", "1e+07");
  check_refused_weights<moe::Int4Groups<moe::Float16>>(-1e6f, "458528", "-1e+06");
}
