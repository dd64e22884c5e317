#include "moe/router/kind/response.hpp"

#include <vector>

#include "moe/router/balance/concept.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/named/top_k.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/rows.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/catch.hpp"

namespace {

using moe::Index;
using Inner = moe::TokenChoice<moe::RowScorer<double>, moe::Softmax, moe::TopKSelection, moe::GatherWeighting,
                               moe::Balancing<>>;
using Router = moe::ResponseRouter<Inner>;
static_assert(moe::TrainableRouter<Router> && moe::ObservableRouter<Router>);

}  // namespace

TEST_CASE("ResponseRouter: routes by the responses, and hands their gradient back", "[probe]") {
  const Router router(Inner{moe::RowScorer<double>(3), moe::Softmax{}, moe::TopKSelection(1),
                            moe::GatherWeighting{}, moe::Balancing<>{}});
  CHECK(router.width() == 0);
  CHECK(router.experts() == 3);
  moe::Workspace memory, workspace;
  moe::Arena arena = memory.arena(1 << 14);
  const auto probes = moe::Probes<double>::by_token(arena, 2, 3, 4, 16);
  const auto dprobes = moe::Probes<double>::by_token(arena, 2, 3, 4, 16);
  const std::vector<double> response{1, 4, 2, 9, 0, 0}, rows{5, 6};
  for (Index i = 0; i < 6; ++i) {
    probes.response(i / 3, i % 3) = response[static_cast<std::size_t>(i)];
    dprobes.response(i / 3, i % 3) = 10;
  }
  moe::RouterInput<double> in;
  in.x = moe::ConstMatrixView<double>(rows.data(), 2, 1);
  moe::SerialExecutor serial;
  auto table = moe::RouteTable<double>::carve(arena, 2, 3, router.max_pairs({2}));
  Router::Tape tape;
  CHECK_THROWS_AS(router.route(in, table, arena, serial), moe::config_error);
  in.probes = moe::Probes<double>::by_token(arena, 2, 4, 4, 16);
  CHECK_THROWS_AS(router.route(in, table, arena, serial), moe::shape_error);
  in.probes = probes;
  router.route_train(in, table, tape, arena, serial);
  REQUIRE(table.pairs() == 2);
  CHECK(table.expert[0] == 1);
  CHECK(table.expert[1] == 0);
  const std::vector<double> dweight{1, 0};
  moe::RouteGradients<double> out;
  out.dweight = dweight.data();
  out.dprobes = &dprobes;
  router.backward(in, table, tape, out, nullptr, arena, serial);
  const double p = table.weight[0];
  CHECK(std::abs(dprobes.response(0, 1) - 10 - p * (1 - p)) <= 1e-15);
  CHECK(dprobes.response(0, 0) < 10);  // not chosen, and yet
  CHECK(dprobes.response(1, 0) == 10);
  CHECK_THROWS_AS(moe::ResponseRouter(moe::softmax_top_k<double>({.width = 4, .experts = 3, .k = 1})),
                  moe::config_error);
}
