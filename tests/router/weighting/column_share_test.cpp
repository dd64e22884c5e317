#include "moe/router/weighting/column_share.hpp"

#include <vector>

#include "moe/core/workspace.hpp"
#include "support/catch.hpp"
#include "support/plain_routing.hpp"

using moe::ColumnShare;
using moe::ExpertId;
using moe::Index;

namespace {

/// Rows of two outputs: row 0 chose 1 then 0, row 1 nothing, row 2 chose 1. Weights, or d scores.
std::vector<double> run(const ColumnShare& part, bool backward) {
  moe::RouterInput<double> call;
  const std::vector<double> score{0.5, 2, 7, 7, -1, 1};
  const std::vector<ExpertId> id{1, 0, 0, 0, 1, 0};
  const std::vector<Index> count{2, 0, 1};
  const bool active[3] = {true, true, true};
  const moe::ConstMatrixView<double> scores(score.data(), 3, 2);
  const moe::SetCall<double> set{call, {}, scores, scores, active};
  const moe::ChosenSet chosen{id.data(), count.data(), 2};
  moe::Arena measuring;
  part.measure(measuring, 3, 2);
  moe::Workspace workspace;
  moe::Arena arena = workspace.arena(measuring.bytes());
  moe::SerialExecutor serial;
  std::vector<double> out(6, 0), dweight{3, 5, 9, 9, 1, 9};
  bool keep[6] = {};
  if (backward) {
    std::vector<double> before(6, 0);  // the second time on memory that was used
    for (std::vector<double>* to : {&before, &out}) {
      moe::Arena again = arena;
      part.set_weights_backward(set, chosen, dweight.data(), moe::MatrixView<double>(to->data(), 3, 2), again,
                                serial);
    }
    CHECK(before == out);
  } else {
    part.set_weights(set, chosen, out.data(), keep, arena, serial);
    CHECK((keep[0] && keep[1] && !keep[2] && !keep[3] && keep[4] && !keep[5]));
  }
  return out;
}

}  // namespace

TEST_CASE("an expert's weights are shares among its rows, wherever they stand in a row's choices",
          "[router]") {
  STATIC_REQUIRE(moe::SetWeighting<ColumnShare>);
  STATIC_REQUIRE(!moe::Weighting<ColumnShare>);
  const auto share = test::softmax({2, 1});
  const auto joint = run(ColumnShare(), false);
  CHECK(test::near(joint[0], share[0] / 2));  // expert 1 of row 0
  CHECK(joint[1] == 1);                       // expert 0 has it alone
  CHECK(test::near(joint[4], share[1] / 2));
  CHECK(run(ColumnShare({.softmax = false}), false) == std::vector<double>{0.5, 1, 0, 0, 0.5, 0});
}

TEST_CASE("the backward of shares by hand", "[router]") {
  const auto share = test::softmax({2, 1});
  const double mean = 3 * share[0] + 1 * share[1];
  const auto dscore = run(ColumnShare(), true);
  CHECK(dscore[0] == 0);
  CHECK(test::near(dscore[1], share[0] * (3 - mean) / 2));
  CHECK(test::near(dscore[5], share[1] * (1 - mean) / 2));
  CHECK((dscore[2] == 0 && dscore[3] == 0 && dscore[4] == 0));
  CHECK(run(ColumnShare({.softmax = false}), true) == std::vector<double>(6, 0));
}
