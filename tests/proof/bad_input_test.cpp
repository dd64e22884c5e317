// One test per row of the table in docs/contracts.md: the exception's type, what its message names, and that
// nothing was written.
#include <Eigen/Core>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <unsupported/Eigen/CXX11/Tensor>
#include <vector>

#include "moe/executor/pool.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/forward_experts.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "moe/router/hash_table.hpp"
#include "moe/router/kind/hash.hpp"
#include "moe/router/named/expert_choice.hpp"
#include "moe/router/named/gshard.hpp"
#include "moe/router/named/noisy_top_k.hpp"
#include "moe/router/named/relu.hpp"
#include "moe/router/named/switch.hpp"
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

TEST_CASE("bad input: no tokens is valid with rows for the router, and with segments of no rows",
          "[proof][smoke]") {
  Router narrow = moe::softmax_top_k<float>({.width = 3, .experts = 4, .k = 2});
  const Layer layer(std::move(narrow), experts());
  const Rows none(0, 6), router_none(0, 3), mask(0, 4);
  Rows y(0, 6), dx(0, 6), router_dx(0, 3);
  moe::RouteStats stats;
  moe::LayerOutput out(y, &stats);
  moe::Workspace workspace;
  moe::LayerInput in(none);
  in.router_x = router_none;
  in.logit_mask = mask;
  CHECK_NOTHROW(layer.forward(in, out, workspace));
  Layer::Tape tape;
  CHECK_NOTHROW(layer.forward_train(in, out, tape, workspace));
  Layer::LayerGradients back(none, dx);
  back.router_dx = router_dx;
  CHECK_NOTHROW(layer.backward(tape, back, workspace));

  const moe::MoeLayer coupled(moe::expert_choice<float>({.width = 6, .experts = 4}), experts());
  for (const auto& [batch, sequence] : {std::pair(3, 0), std::pair(0, 3), std::pair(0, 0)}) {
    const Eigen::Tensor<float, 3, Eigen::RowMajor> x(batch, sequence, 6);
    CHECK_NOTHROW(coupled.forward(x, out, workspace));
  }
  CHECK_NOTHROW(coupled.forward(none, out, workspace));
  const moe::MoeLayer hashed(moe::HashRouter<float>(moe::HashTable::random(100, 4, 1)), experts());
  CHECK_NOTHROW(hashed.forward(none, out, workspace));
  CHECK((stats.tokens == 0 && stats.pairs() == 0));
}

TEST_CASE("bad input: matrices of no rows are not absent", "[proof][smoke]") {
  Call call;
  const Layer layer(router(), experts());
  const Rows no_mask(0, 4), no_rows(0, 6);
  CHECK(call.rejects_input<moe::shape_error>(layer, [&](auto& in) { in.logit_mask = no_mask; }) ==
        "moe: logit_mask: expected 5 rows (or 1), got 0");
  CHECK(call.rejects_input<moe::shape_error>(layer, [&](auto& in) { in.router_x = no_rows; }) ==
        "moe: router_x: expected 5 rows, got 0");
  const Rows no_columns(5, 0);
  CHECK(call.rejects_input<moe::shape_error>(layer, [&](auto& in) { in.logit_mask = no_columns; }) ==
        "moe: logit_mask: expected 4 columns, got 0");
}

TEST_CASE("bad input: statistics of a layer with other experts", "[proof][smoke]") {
  Call call;
  const Layer layer(router(), experts());
  moe::LayerOutput out(call.y, &call.stats);
  Experts six({.experts = 6, .width = 6, .hidden = 5});
  const Layer other(moe::softmax_top_k<float>({.width = 6, .experts = 6, .k = 2}), std::move(six));
  other.forward(call.x, out, call.workspace);
  call.y.setConstant(7);
  CHECK(test::message_of<moe::shape_error>([&] { layer.forward(call.x, out, call.workspace); }) ==
        "moe: statistics: expected 6 experts, as counted so far, got 4; clear() them first, or keep "
        "statistics for each layer");
  CHECK((call.y.array() == 7).all());
  CHECK((call.stats.tokens == 5 && call.stats.experts() == 6));
  call.stats.clear();
  CHECK_NOTHROW(layer.forward(call.x, out, call.workspace));
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

TEST_CASE("bad input: counts of other micro-batches that are none", "[proof][smoke]") {
  Call call;
  const Layer layer(router(), experts());
  std::vector<double> counts(4, 3);
  for (const double bad : {std::nan(""), -1.0, 1e300, 1e300 * 1e300}) {
    counts[2] = bad;
    const std::string message =
        call.rejects_input<moe::numeric_error>(layer, [&](auto& in) { in.outside_counts = counts; });
    CHECK(message.starts_with("moe: outside_counts: expected counts in [0, 2^53], got "));
    CHECK(message.ends_with(" for expert 2"));
  }
}

TEST_CASE("bad input: options of a call that nobody obeys", "[proof][smoke]") {
  Call call;
  const auto relu = moe::relu_router<float>({.width = 6, .experts = 4});
  CHECK(call.rejects_input<moe::config_error>(moe::MoeLayer(relu, experts()), [](auto& in) {
    in.options.experts_per_token = 1000;
  }) == "moe: experts per token: expected none for the selection positive, which cannot obey it, got 1000");
  const moe::MoeLayer unlimited(router(), experts());  // a FixedCapacity would obey
  CHECK(call.rejects_input<moe::config_error>(unlimited, [](auto& in) {
    in.options.capacity_factor = 2;
    in.segments = moe::Segments::uniform(5);
  }) == "moe: capacity factor: expected none for the selection top_k, which cannot obey it, got 2");
}

TEST_CASE("bad input: training that draws without a DrawCounter", "[proof][smoke]") {
  Call call;
  const auto check = [&](const auto& drawing, const std::string& what) {
    const moe::MoeLayer layer(drawing, experts());
    const std::string message =
        call.rejects_input<moe::config_error>(layer, [](auto& in) { in.mode = moe::Mode::training; });
    CHECK(message == "moe: draws: expected a DrawCounter for " + what +
                         ", which draws, got none; write in.draws = &draws, with one moe::DrawCounter "
                         "draws(seed) for all layers and steps");
    Rows y(5, 6);
    moe::LayerOutput<float> out(y);
    layer.forward(call.x, out, call.workspace);  // inference draws nothing
    moe::DrawCounter draws(1);
    moe::LayerInput<float> in(call.x);
    in.mode = moe::Mode::training;
    in.draws = &draws;
    layer.forward(in, out, call.workspace);
    CHECK(draws.calls() == 1);
    in.options.experts_per_token = 9;
    CHECK_THROWS_AS(layer.forward(in, out, call.workspace), moe::config_error);
    CHECK(draws.calls() == 1);  // a call that failed drew nothing
  };
  check(moe::switch_router<float>({.width = 6, .experts = 4}), "a router with jitter");
  check(moe::noisy_top_k<float>({.width = 6, .experts = 4, .k = 2}), "a noisy router");
  check(moe::gshard_router<float>({.width = 6, .experts = 4}), "a router with random second experts");
  // One that does not draw needs none.
  Rows y(5, 6);
  moe::LayerOutput<float> out(y);
  Layer layer(router(), experts());
  CHECK_NOTHROW(layer.forward_train(call.x, out, call.tape, call.workspace));
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

TEST_CASE("blocks of columns of one matrix may be x and y, dy and dx, and rows for the router",
          "[proof][smoke]") {
  const Layer layer(router(), experts());
  Rows all = Rows::Random(5, 24), want(5, 6), want_dx(5, 6), want_router_dx(5, 6);
  const Rows x = all.leftCols(6), seen = all.middleCols(6, 6), dy = x;
  moe::Workspace workspace;
  Layer::Tape tape;
  const auto run = [&](const auto& rows, const auto& router_rows, auto&& y, const auto& dy_rows, auto&& dx,
                       auto&& router_dx) {
    moe::LayerInput<float> in(rows);
    in.router_x = router_rows;
    moe::LayerOutput<float> out(y);
    layer.forward_train(in, out, tape, workspace);
    Layer::LayerGradients back(dy_rows, dx);
    back.router_dx = router_dx;
    layer.backward(tape, back, workspace);
  };
  run(x, seen, want, dy, want_dx, want_router_dx);
  Rows gradients = Rows::Zero(5, 18);
  gradients.leftCols(6) = dy;
  run(all.leftCols(6), all.middleCols(6, 6), all.rightCols(6), gradients.leftCols(6),
      gradients.middleCols(6, 6), gradients.rightCols(6));
  CHECK(all.rightCols(6) == want);
  CHECK(gradients.middleCols(6, 6) == want_dx);
  CHECK(gradients.rightCols(6) == want_router_dx);
  CHECK((all.leftCols(6) == x && all.middleCols(6, 6) == seen && gradients.leftCols(6) == dy));
  // One column too far, each pair.
  CHECK_THROWS_AS(run(all.leftCols(6), seen, all.middleCols(5, 6), dy, want_dx, want_router_dx),
                  moe::shape_error);
  CHECK_THROWS_AS(run(x, all.leftCols(6), all.middleCols(5, 6), dy, want_dx, want_router_dx),
                  moe::shape_error);
  CHECK_THROWS_AS(run(x, seen, want, all.leftCols(6), all.middleCols(5, 6), want_router_dx),
                  moe::shape_error);
  CHECK_THROWS_AS(run(x, seen, want, all.leftCols(6), want_dx, all.middleCols(5, 6)), moe::shape_error);
  CHECK_THROWS_AS(run(x, seen, want, dy, all.leftCols(6), all.middleCols(5, 6)), moe::shape_error);
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
  CHECK(message == "moe: workspace: expected at least " + std::to_string(needed) +
                       " bytes for inference with 1 worker, got " + std::to_string(needed - 1) +
                       "; ask workspace_bytes(shape, Mode::inference, 1)");
  moe::LayerOutput<float> out(call.y);
  CHECK_NOTHROW(layer.forward(call.x, out, enough));
  // What the text says to ask for is enough: for training, and for more workers.
  moe::PoolExecutor two(2);
  moe::Workspace none{std::span<std::byte>()};
  const std::string text =
      test::message_of<moe::workspace_error>([&] { layer.forward_train(call.x, out, call.tape, none, two); });
  CHECK(text.find("for training with 2 workers, got 0; ask workspace_bytes(shape, Mode::training, 2)") !=
        std::string::npos);
  std::vector<std::byte> more(
      static_cast<std::size_t>(layer.workspace_bytes({.tokens = 5}, moe::Mode::training, 2)));
  moe::Workspace fixed{std::span(more)};
  layer.forward_train(call.x, out, call.tape, fixed, two);
  CHECK(test::message_of<moe::workspace_error>([&] {
          layer.backward(call.tape, Layer::LayerGradients(call.dy, call.dx), none, two);
        }).find("for training with 2 workers") != std::string::npos);
  CHECK_NOTHROW(layer.backward(call.tape, Layer::LayerGradients(call.dy, call.dx), fixed, two));
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
  for (const double bad : {std::nan(""), static_cast<double>(kInf), -static_cast<double>(kInf)}) {
    CHECK(call.rejects<moe::config_error>([&] {
                Layer::LayerGradients back(call.dy, call.dx, gradients);
                back.auxiliary_scale = bad;
                layer.backward(call.tape, back, call.workspace);
              })
              .starts_with("moe: auxiliary_scale: expected a finite factor of the losses, got "));
  }
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

TEST_CASE("bad input: a refused forward_train leaves its tape as it was", "[proof][smoke]") {
  const Layer layer(router(), experts());
  Call call;
  Layer::Tape tape;
  auto gradients = layer.make_gradients();
  const auto results = [&] {
    Rows dx(5, 6);
    Layer::LayerGradients back(call.dy, dx, gradients);
    gradients = layer.make_gradients();
    layer.backward(tape, back, call.workspace);
    const Rows weights =
        Eigen::Map<Rows>(gradients.router.scorer.weight.data(), 1, gradients.router.scorer.weight.size());
    return std::pair(dx, weights);
  };
  const auto train = [&](auto&& change) {
    Rows y(5, 6);
    moe::LayerOutput<float> out(y, &call.stats);
    moe::LayerInput<float> in(call.x);
    change(in, out);
    layer.forward_train(in, out, tape, call.workspace);
  };
  train([](auto&, auto&) {});
  call.stats.clear();
  const auto want = results();
  Rows nan = call.x, narrow = Rows::Zero(5, 5), mask = Rows::Zero(5, 4);
  nan(3, 2) = kNan;
  mask.row(1).setConstant(-kInf);
  const Index late[] = {1, 5};
  const std::function<void(moe::LayerInput<float>&, moe::LayerOutput<float>&)> refused[] = {
      [&](auto& in, auto&) { in.x = narrow; },
      [&](auto&, auto& out) { out.y = narrow; },
      [&](auto& in, auto&) { in.router_x = narrow; },
      [&](auto& in, auto&) { in.logit_mask = narrow; },
      [&](auto& in, auto&) { in.segments = moe::Segments(late); },
      [&](auto& in, auto&) { in.options.experts_per_token = 5; },
      [&](auto& in, auto&) { in.options.threshold = 0.5; },
      [&](auto& in, auto&) { in.x = nan; },           // found when logits are there
      [&](auto& in, auto&) { in.router_x = nan; },    // so is this
      [&](auto& in, auto&) { in.logit_mask = mask; }  // and this
  };
  for (const auto& change : refused) {
    CHECK_THROWS(train(change));
    CHECK(tape.tokens() == 5);
    const auto got = results();
    CHECK((got.first == want.first && got.second == want.second));
  }
  std::byte few[64];
  moe::Workspace small{std::span(few)};
  Rows y(5, 6);
  moe::LayerOutput<float> out(y);
  CHECK_THROWS_AS(layer.forward_train(call.x, out, tape, small), moe::workspace_error);
  CHECK(results().first == want.first);
  CHECK(call.stats.tokens == 0);

  // Routers that look at token ids, and stage 2, which looks at what routers did.
  const moe::MoeLayer hashed(moe::HashRouter<float>(moe::HashTable::random(100, 4, 1)), experts());
  decltype(hashed)::Tape hash_tape;
  const moe::TokenId ids[] = {0, 1, 2, 3, 4}, beyond[] = {0, 1, 2, 3, 400};
  moe::LayerInput<float> in(call.x);
  in.token_id = ids;
  hashed.forward_train(in, out, hash_tape, call.workspace);
  in.token_id = beyond;
  CHECK_THROWS_AS(hashed.forward_train(in, out, hash_tape, call.workspace), moe::route_error);
  CHECK(hash_tape.tokens() == 5);
  CHECK(hash_tape.routes().pairs() == 5);
  Rows dx(5, 6);
  decltype(hashed)::LayerGradients back(call.dy, dx);
  CHECK_NOTHROW(hashed.backward(hash_tape, back, call.workspace));
}

TEST_CASE("bad input: tapes and gradients of another layer", "[proof][smoke]") {
  const Layer layer(router(), experts());
  const Layer copy = layer;
  Call call;
  Rows y(5, 6);
  moe::LayerOutput<float> out(y);
  layer.forward_train(call.x, out, call.tape, call.workspace);
  Layer::LayerGradients back(call.dy, call.dx);
  CHECK(call.rejects<moe::state_error>([&] { copy.backward(call.tape, back, call.workspace); }) ==
        "moe: tape: expected that of a forward_train of the same object, got another one's");
  auto more = moe::softmax_top_k<float>({.width = 6, .experts = 64, .k = 2}).make_gradients();
  back.router = &more;
  CHECK(call.rejects<moe::shape_error>([&] { layer.backward(call.tape, back, call.workspace); }) ==
        "moe: gradients of gate: expected 4 outputs (ask make_gradients()), got 64");
  back.router = nullptr;
  auto longer = Experts({.experts = 4, .width = 6, .hidden = 9}).make_gradients();
  back.experts = &longer;
  CHECK(call.rejects<moe::shape_error>([&] { layer.backward(call.tape, back, call.workspace); }) ==
        "moe: gradients of the experts: expected those of 4 experts 6 x 5 x 6 without biases (ask "
        "make_gradients()), got 4 experts 6 x 9 x 6 without biases");
  Layer visited = layer;
  auto gradients = layer.make_gradients();
  gradients.experts = longer;
  const auto nobody = [](auto&&...) { FAIL("shown"); };
  CHECK_THROWS_AS(visited.visit_storage(gradients, nobody), moe::shape_error);
  CHECK_THROWS_AS(visited.visit_parameters(gradients, nobody), moe::shape_error);
  CHECK_THROWS_AS(visited.zero_gradients(gradients), moe::shape_error);
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
  // 64-bit ids are not cut to ids that exist.
  std::vector<std::int64_t> wide{0, 1, 2, 3, std::int64_t{1} << 32};
  CHECK(call.rejects_input<moe::route_error>(layer, [&](auto& in) { in.token_id = wide; }) ==
        "moe: column: expected entries in [-2147483648, 2147483647], got 4294967296 at position 4");
  wide[4] = 4;
  const moe::TokenId narrow[] = {0, 1, 2, 3, 4};
  Rows y(5, 6);
  moe::LayerOutput out(y), narrow_out(call.y);
  moe::LayerInput in(call.x);
  in.token_id = wide;
  layer.forward(in, out, call.workspace);
  in.token_id = narrow;
  layer.forward(in, narrow_out, call.workspace);
  CHECK(y == call.y);
}

TEST_CASE("bad input: sizes whose product overflows", "[proof][smoke]") {
  constexpr Index kHuge = Index{1} << 40;
  CHECK_THROWS_AS(Experts({.experts = 4, .width = kHuge, .hidden = kHuge}), moe::size_error);
  // Sums of codes of a whole column, in 32 bits.
  CHECK_THROWS_AS((moe::Glu<moe::Silu, moe::Int8Channels>({.experts = 1, .width = 131073, .hidden = 1})),
                  moe::config_error);
  float number = 0;
  CHECK_THROWS_AS(moe::ConstMatrixView<float>(&number, kHuge, kHuge), moe::size_error);
  const Layer layer(router(), experts());
  CHECK_THROWS_AS(layer.workspace_bytes({.tokens = PTRDIFF_MAX / 4}), moe::size_error);
}

TEST_CASE("bad input: weights that a block storage cannot round", "[proof][smoke]") {
  for (const auto& [bad, shown] :
       {std::pair(kNan, "nan"), std::pair(kInf, "inf"), std::pair(-kInf, "-inf")}) {
    check_refused_weights<moe::BFloat16>(bad, "3.38953e+38", shown);
    check_refused_weights<moe::Int8Groups<>>(bad, "4.15384e+34", shown);
    check_refused_weights<moe::Int4Groups<>>(bad, "4.15384e+34", shown);
  }
  check_refused_weights<moe::Int8Channels>(1.3e30f, "1.26765e+30", "1.3e+30");
  check_refused_weights<moe::Q4K>(-4.2e6f, "4.12675e+06", "-4.2e+06");
  check_refused_weights<moe::Q6K>(2.7e8f, "2.66208e+08", "2.7e+08");
  check_refused_weights<moe::Int8Groups<moe::Float16>>(1e7f, "8.31901e+06", "1e+07");
  check_refused_weights<moe::Int4Groups<moe::Float16>>(-1e6f, "458528", "-1e+06");
}
