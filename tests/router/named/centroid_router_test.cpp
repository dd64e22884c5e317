#include "moe/router/named/centroid_router.hpp"

#include <cmath>

#include "moe/router/scorer/centroid.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::ExpertId;
using moe::Index;
using test::near;

const test::RouterCases kCases{
    {"KMeansRouter",
     [] {
       auto router = moe::kmeans_router<double>({.width = 4, .experts = 5, .k = 2, .tau = 0.7});
       router.scorer().initialise(3);
       return router;
     }},
    {"ClusterRouter",
     [] {
       auto router = moe::cluster_router<double>({.width = 4, .clusters = 5});
       router.scorer().initialise(3);
       return router;
     }},
};

/// A call, what it teaches, and the end of the step.
template <class R>
test::Routed<double> learn(R& router, test::RouterCall<double> call) {
  call.training = true;
  typename R::Tape tape;
  test::OwnedTable<double> table(router, call.shape());
  auto routed = test::route_train(router, call, table, tape);
  router.scorer().collect(call.input().x, *table);
  router.on_step_end({});
  return routed;
}

void set_centroids(auto& router, const test::Matrix& values) {
  std::vector<double> flat;
  for (const auto& row : values) flat.insert(flat.end(), row.begin(), row.end());
  router.scorer().set_centroids(
      {flat.data(), static_cast<Index>(values.size()), static_cast<Index>(values[0].size())});
}

}  // namespace

TEST_CASE("a moving average by hand; an expert without rows keeps its centroid", "[centroid]") {
  auto router = moe::cluster_router<double>({.width = 2, .clusters = 2, .rate = 0.25});
  set_centroids(router, {{1, 0}, {0, 1}});
  const auto routed = learn(router, test::call_of({{4, 1}, {2, 1}}));
  CHECK(routed.expert == std::vector<ExpertId>{0, 0});
  CHECK(routed.weight == std::vector<double>{1, 1});
  const double* const c = router.scorer().centroid(0);
  CHECK((near(c[0], 1 + 0.25 * (3 - 1)) && near(c[1], 0.25)));
  CHECK((router.scorer().centroid(1)[0] == 0 && router.scorer().centroid(1)[1] == 1));
  router.on_step_end({});  // nothing was collected
  CHECK(near(c[0], 1.5));
}

TEST_CASE("a running mean is the mean of all rows that an expert ever got", "[centroid]") {
  auto router =
      moe::kmeans_router<double>({.width = 2, .experts = 2, .rule = moe::CentroidRule::running_mean});
  set_centroids(router, {{1, 0}, {0, 1}});
  learn(router, test::call_of({{3, 0.5}, {0, 2}}));
  learn(router, test::call_of({{5, 1}, {4, 0}}));
  const double* const c = router.scorer().centroid(0);
  CHECK((near(c[0], 4) && near(c[1], 0.5)));
  CHECK((near(router.scorer().centroid(1)[0], 0) && near(router.scorer().centroid(1)[1], 2)));
}

TEST_CASE("two clusters of rows are found, by the same bits however often it is done", "[centroid]") {
  test::Matrix rows;
  const moe::KeyedRandom draw(4, 0, moe::DrawStream::user);
  for (std::uint64_t t = 0; t < 60; ++t) {
    const double x = 0.1 * draw.normal(t, 0), y = 0.1 * draw.normal(t, 1);
    rows.push_back(t % 2 == 0 ? test::Vector{3 + x, y} : test::Vector{x, 3 + y});
  }
  const auto call = test::call_of(rows);
  test::SavedState states[2];
  for (auto& state : states) {
    auto router = moe::kmeans_router<double>({.width = 2, .experts = 2, .rate = 0.2});
    set_centroids(router, {{1, 0.8}, {0.8, 1}});
    for (int step = 0; step < 60; ++step) learn(router, call);
    const auto routed = test::route(router, call);
    for (std::size_t t = 0; t < 60; ++t) CHECK(routed.expert[t] == static_cast<ExpertId>(t % 2));
    CHECK(std::abs(router.scorer().centroid(0)[0] - 3) < 0.1);
    CHECK(std::abs(router.scorer().centroid(1)[1] - 3) < 0.1);
    state = test::save_state(router);
  }
  CHECK(states[0] == states[1]);
}

TEST_CASE("micro-batches count together: collected twice is collected at once", "[centroid]") {
  auto at_once = moe::kmeans_router<double>({.width = 3, .experts = 4, .k = 2});
  at_once.scorer().initialise(2);
  auto in_parts = at_once;
  auto call = test::random_call<double>(20, 3, 1);
  learn(at_once, call);
  std::vector<Index> first, second;
  for (Index t = 0; t < 20; ++t) (t < 8 ? first : second).push_back(t);
  for (const auto& part : {call.subset(first), call.subset(second)}) {
    moe::KMeansRouter<double>::Tape tape;
    test::OwnedTable<double> table(in_parts, part.shape());
    test::route_train(in_parts, part, table, tape);
    in_parts.scorer().collect(part.input().x, *table);
  }
  in_parts.on_step_end({});
  CHECK(test::save_state(at_once) == test::save_state(in_parts));
}

TEST_CASE("the nearest cluster stays the same when rows and clusters are scaled alike", "[centroid]") {
  auto router = moe::cluster_router<double>({.width = 4, .clusters = 5});
  router.scorer().initialise(3);
  auto call = test::random_call<double>(30, 4, 1);
  const auto before = test::route(router, call);
  test::Matrix scaled;
  for (Index e = 0; e < 5; ++e) {
    scaled.emplace_back(router.scorer().centroid(e), router.scorer().centroid(e) + 4);
    for (double& v : scaled.back()) v *= 7;
  }
  set_centroids(router, scaled);
  for (double& v : call.x) v *= 7;
  CHECK(test::route(router, call).expert == before.expert);
}

TEST_CASE("centroids are state, not parameters, and are saved", "[centroid]") {
  auto router = moe::kmeans_router<double>({.width = 3, .experts = 4});
  auto none = [](const moe::Parameter<double>& p) { FAIL_CHECK("expected no parameter, got " << p.name); };
  router.visit_parameters(nullptr, none);
  router.scorer().initialise(2);
  auto call = test::random_call<double>(20, 3, 1);
  const auto before = test::route(router, call);
  const auto saved = test::save_state(router);
  learn(router, call);
  CHECK(test::save_state(router) != saved);
  test::load_state(router, saved);
  CHECK(test::same_route(before, test::route(router, call)));
  auto bad = saved;
  bad[0].second[0] = std::nan("");
  CHECK_THROWS_AS(test::load_state(router, bad), moe::numeric_error);
  CHECK(test::save_state(router) == saved);
}

TEST_CASE("centroid routers refuse what does not fit", "[centroid]") {
  CHECK_THROWS_WITH(moe::kmeans_router<double>({.width = 3, .experts = 4, .rate = 1.5}),
                    "moe: centroid rate: expected a value in [0, 1], got 1.5");
  CHECK_THROWS_AS(moe::kmeans_router<double>({.width = 3, .experts = 4, .tau = 0}), moe::config_error);
  CHECK_THROWS_AS(moe::kmeans_router<double>({.width = 0, .experts = 4}), moe::config_error);
  CHECK_THROWS_AS(moe::cluster_router<double>({.width = 3, .clusters = 0}), moe::config_error);
  auto router = moe::cluster_router<double>({.width = 3, .clusters = 4});
  test::OwnedTable<double> table(5, 4, 5), other(5, 3, 5);
  const std::vector<double> rows(15, 0);
  CHECK_THROWS_AS(router.scorer().collect({rows.data(), 5, 2}, *table), moe::shape_error);
  CHECK_THROWS_AS(router.scorer().collect({rows.data(), 4, 3}, *table), moe::shape_error);
  CHECK_THROWS_AS(router.scorer().collect({rows.data(), 5, 3}, *other), moe::shape_error);
  CHECK_THROWS_AS(router.scorer().set_centroids({rows.data(), 5, 3}), moe::shape_error);
}
