#include "moe/analysis/route_log.hpp"

#include <vector>

#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "moe/router/named/replayed.hpp"
#include "moe/router/named/top_k.hpp"
#include "support/catch.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::ExpertId;
using moe::Index;
using moe::RouteLog;

using Routes = std::vector<std::vector<ExpertId>>;

void record(RouteLog& log, const Routes& routes, Index begin, Index end, Index elided = 0) {
  test::OwnedTable<float> table(static_cast<Index>(routes.size()), 9, 20);
  for (std::size_t t = 0; t < routes.size(); ++t) {
    (*table).begin_token(static_cast<Index>(t));
    for (const ExpertId e : routes[t]) (*table).push(static_cast<Index>(t), e, 1);
  }
  (*table).elided = elided;
  log.record(*table, begin, end);
}

/// The rows as they would be replayed.
Routes replayed(const RouteLog& log) {
  const auto ids = log.replay(log.tokens());
  Routes routes;
  for (Index t = 0; t < ids.rows; ++t) routes.emplace_back(ids.row(t), ids.row(t) + ids.cols);
  return routes;
}

constexpr Index kTokens = 40, kWidth = 4;

}  // namespace

TEST_CASE("a log appends rows of any number of experts, of a call or of a request of it", "[replay]") {
  RouteLog log;
  CHECK(log.tokens() == 0);
  record(log, {{3}, {}}, 0, 2);
  CHECK(replayed(log) == Routes{{3}, {-1}});
  record(log, {{8, 8}, {2, 0, 1}, {4}}, 1, 3);
  CHECK(replayed(log) == Routes{{3, -1, -1}, {-1, -1, -1}, {2, 0, 1}, {4, -1, -1}});
  RouteLog other;  // kept elsewhere
  other.record(log.replay(4));
  CHECK(replayed(other) == replayed(log));
  Routes all = replayed(log);
  for (ExpertId e = 0; e < 9; ++e) {
    record(log, {{e}}, 0, 1);
    all.push_back({e, -1, -1});
  }
  CHECK(replayed(log) == all);
  log.clear();
  CHECK(log.tokens() == 0);
  record(log, {{5, 6}}, 0, 1);
  CHECK(replayed(log) == Routes{{5, 6, -1}});
}

TEST_CASE("logs refuse rows that are not there, another length, and null experts", "[replay]") {
  RouteLog log;
  record(log, {{3}, {1}}, 0, 2);
  CHECK_THROWS_WITH(log.replay(3), "moe: route log: expected 3 rows, got 2");
  CHECK_THROWS_AS(record(log, {{3}, {1}}, 0, 3), moe::shape_error);
  CHECK_THROWS_AS(record(log, {{3}, {1}}, 2, 1), moe::shape_error);
  CHECK_THROWS_WITH(record(log, {{3}}, 0, 1, 2),
                    "moe: route log: expected a call without null experts, got 2 choices of them");
  CHECK(log.tokens() == 2);
}

TEST_CASE("a layer replays what it recorded, dropped pairs too: the same bits forward and backward",
          "[replay]") {
  auto router = moe::replayed(moe::top_k_softmax<double>({.width = kWidth, .experts = 5, .k = 2}));
  router.scorer().initialise(2);
  moe::Glu<moe::Silu, double> bank({.experts = 5, .width = kWidth, .hidden = 6});
  bank.initialise(3);
  const moe::MoeLayer layer(std::move(router), std::move(bank), moe::FixedCapacity({.factor = 0.7}));
  auto call = test::random_call<double>(kTokens, kWidth, 6);
  moe::LayerInput<double> in(moe::ConstMatrixView<double>(call.x.data(), kTokens, kWidth));
  moe::Workspace workspace;
  RouteLog log;
  moe::RouteRecorder<double> recorder(log);
  const auto run = [&](moe::Observer<double>* observer) {
    std::vector<double> all(static_cast<std::size_t>(2 * kTokens * kWidth));
    const moe::MatrixView<double> y(all.data(), kTokens, kWidth),
        dx(all.data() + kTokens * kWidth, kTokens, kWidth);
    moe::LayerOutput<double> out(y);
    moe::RouteStats stats;
    out.stats = &stats;
    out.observer = observer;
    typename decltype(layer)::Tape tape;
    layer.forward_train(in, out, tape, workspace);
    auto gradients = layer.make_gradients();
    typename decltype(layer)::LayerGradients back(y, dx, gradients);
    layer.backward(tape, back, workspace);
    layer.visit_storage(gradients, [&](const char*, const double*, const double* g, Index n) {
      all.insert(all.end(), g, g + n);
    });
    all.push_back(out.losses.total());
    CHECK(stats.dropped > 0);
    return all;
  };
  const auto recorded = run(&recorder);
  CHECK(log.tokens() == kTokens);
  in.replay = log.replay(kTokens);
  for (const auto& ids : replayed(log)) CHECK((ids.size() == 2 && ids[1] >= 0));
  CHECK(test::same_bits(recorded, run(nullptr)));
}
