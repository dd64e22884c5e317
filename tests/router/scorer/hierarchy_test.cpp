#include "moe/router/scorer/hierarchy.hpp"

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/named/hierarchy.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/scorer/masked.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/catch.hpp"
#include "support/plain_routing.hpp"

using moe::Index;

namespace {
constexpr Index kThree[] = {1, 0, 1};
using OneGate = moe::TokenChoice<moe::MaskedScorer<moe::LinearScorer<double>, moe::HierarchyMask>,
                                 moe::Softmax, moe::TopKSelection, moe::GatherWeighting>;
}  // namespace

TEST_CASE("gates that agree about every expert are one gate behind a mask", "[router]") {
  const moe::HierarchyMask mask({.category = kThree, .shared = 1, .per_category = 2, .per_task = 1});
  auto own = moe::hierarchy_router<double>(
      {.width = 4, .hierarchy = {.category = kThree, .shared = 1, .per_category = 2, .per_task = 1}});
  OneGate one({moe::LinearScorer<double>({.width = 4, .outputs = 8, .bias = true}), mask}, {},
              moe::TopKSelection(4), {});
  test::randomise(one, 3);
  const auto w = test::parameter(one, "gate.weight"), b = test::parameter(one, "gate.bias");
  const auto copy = [&](const moe::Parameter<double>& p) {
    for (Index row = 0; row < 12; ++row) {
      const auto e = static_cast<std::size_t>(mask.expert(row / 4, row % 4));
      for (Index j = 0; j < p.value.cols; ++j) {
        p.value(row, j) = (p.value.cols == 1 ? b : w)[e][static_cast<std::size_t>(j)];
      }
    }
  };
  own.visit_parameters(nullptr, copy);
  auto call = test::random_call<double>(20, 4, 5);
  for (std::int32_t& task : call.columns.ints.at("task")) task %= 3;
  const auto masked = test::route(one, call), by_task = test::route(own, call);
  CHECK(masked.expert == by_task.expert);
  for (std::size_t i = 0; i < masked.weight.size(); ++i) {
    CHECK(std::abs(masked.weight[i] - by_task.weight[i]) <= 1e-15);
  }
}
