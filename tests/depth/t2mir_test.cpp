#include "moe/depth/t2mir.hpp"

#include <cmath>
#include <vector>

#include "moe/expert/bank/mlp.hpp"
#include "moe/kernel/activation.hpp"
#include "support/catch.hpp"
#include "support/depth_calls.hpp"
#include "support/layer_laws.hpp"

namespace {

using moe::Index;
using test::Values;
using Bank = moe::Mlp<moe::Silu, double>;

constexpr Index kWidth = 4;

Bank bank(Index experts) {
  return Bank({.experts = experts, .width = kWidth, .hidden = 3});
}
moe::T2mir<Bank> layer(moe::Join join) {
  return moe::t2mir({.by_token = {.width = kWidth, .experts = 3, .k = 2},
                     .by_task = {.width = kWidth, .experts = 4, .k = 2, .load_balance = 0},
                     .contrast = {.coefficient = 0.2, .tau = 0.5},
                     .join = join},
                    bank(3), bank(4));
}

}  // namespace

TEST_CASE("T2MIR keeps the laws of layers", "[depth]") {
  test::LayerCall call;
  call.ends = {0, 3, 5, 7};
  call.columns = [](moe::LayerInput<double>& in, const std::vector<Index>& rows) {
    std::vector<int> task;
    for (const Index t : rows) task.push_back(t < 3 || t >= 5 ? 1 : 2);
    in.task = moe::Column<std::int32_t>(std::vector<long>(task.begin(), task.end()));
  };
  test::check_layer(
      "t2mir", [] { return layer(moe::Join::add); }, call);
}

TEST_CASE("T2MIR: segments of equal rows route alike; results are beside each other", "[depth]") {
  auto made = layer(moe::Join::concatenate);
  test::draw_parameters(made, 3);
  CHECK(made.out_width() == 2 * kWidth);
  // Segments 0 and 2 have the same rows, in another order.
  Values x = test::normal_rows(4, 7, kWidth);
  for (Index j = 0; j < kWidth; ++j) {
    for (const auto& [from, to] : {std::pair{0, 6}, {1, 5}}) {
      x[static_cast<std::size_t>(to * kWidth + j)] = x[static_cast<std::size_t>(from * kWidth + j)];
    }
  }
  const std::vector<Index> ends{0, 2, 5, 7};
  const std::vector<std::int32_t> task{1, 1, 2, 2, 2, 1, 1};
  moe::LayerInput<double> in(test::rows_of(x, kWidth));
  in.segments = moe::Segments(std::span<const Index>(ends));
  in.task = std::span<const std::int32_t>(task);
  test::Trained trained(made, in, test::normal_rows(5, 7, 2 * kWidth));
  const auto& by_task = std::get<1>(trained.tape.layers()).routes();
  const auto chosen = [&](Index t, Index i) { return by_task.expert[by_task.offsets[t] + i]; };
  for (Index s = 0; s < 3; ++s) {
    for (Index t = ends[static_cast<std::size_t>(s)]; t < ends[static_cast<std::size_t>(s + 1)]; ++t) {
      for (Index i = 0; i < 2; ++i) {
        CHECK(chosen(t, i) == chosen(ends[static_cast<std::size_t>(s)], i));
        if (s == 2) CHECK(chosen(t, i) == chosen(0, i));
      }
    }
  }
  for (const auto& [a, b] : {std::pair{0, 6}, {1, 5}}) {
    for (Index j = 0; j < 2 * kWidth; ++j) {
      CHECK(std::abs(trained.y[static_cast<std::size_t>(a * 2 * kWidth + j)] -
                     trained.y[static_cast<std::size_t>(b * 2 * kWidth + j)]) <= 1e-14);
    }
  }
  // Both halves' losses: the balance by token, the contrast by task.
  const auto& token_losses = std::get<0>(trained.tape.layers()).routes().losses;
  CHECK(token_losses.total() + by_task.losses.total() == trained.losses);
  CHECK(by_task.losses.total() > 0);
}

TEST_CASE("T2MIR refuses losses of the task-wise half, missing tasks and missing segments", "[depth]") {
  CHECK_THROWS_AS(moe::t2mir({.by_token = {.width = kWidth, .experts = 3},
                              .by_task = {.width = kWidth, .experts = 3, .load_balance = 0.1}},
                             bank(3), bank(3)),
                  moe::config_error);
  auto made = layer(moe::Join::add);
  const Values x = test::normal_rows(4, 3, kWidth);
  Values y(x.size());
  moe::LayerOutput<double> out(test::rows_of(y, kWidth));
  moe::Workspace workspace;
  auto tape = made.make_tape();
  CHECK_THROWS_AS(made.forward_train(test::rows_of(x, kWidth), out, tape, workspace), moe::config_error);
  CHECK_THROWS_AS(made.forward(test::rows_of(x, kWidth), out, workspace), moe::config_error);
}
