#include "moe/router/scorer/rows.hpp"

#include "moe/router/balance/load_balance.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/router_cases.hpp"
#include "support/router_laws.hpp"

namespace {

using Router = moe::TokenChoice<moe::RowScorer<double>, moe::Softmax, moe::TopKSelection,
                                moe::GatherWeighting, moe::Balancing<moe::LoadBalance>>;

const test::RouterCases kCases{{"RowScorer", [] {
                                  return Router{moe::RowScorer<double>(5), moe::Softmax{},
                                                moe::TopKSelection(2), moe::GatherWeighting{},
                                                moe::Balancing<moe::LoadBalance>(moe::LoadBalance{})};
                                }}};

}  // namespace

TEST_CASE("RowScorer: the row is the logits", "[scorer]") {
  const Router router = Router{moe::RowScorer<double>(3), moe::Softmax{}, moe::TopKSelection(1),
                               moe::GatherWeighting{}, moe::Balancing<moe::LoadBalance>(moe::LoadBalance{})};
  test::RouterCall<double> call;
  call.tokens = 2;
  call.width = 3;
  call.key = {0, 1};
  call.x = {0, 5, 1, 2, 2, -7};
  const auto routed = test::route(router, call);
  CHECK(routed.experts_of(0) == std::vector<moe::ExpertId>{1});
  CHECK(routed.experts_of(1) == std::vector<moe::ExpertId>{0});
  CHECK_THROWS_AS(moe::RowScorer<double>(0), moe::config_error);
}
