#include "moe/router/named/patch_router.hpp"

#include <algorithm>
#include <limits>

#include "moe/router/balance/sparsity_l1.hpp"
#include "moe/router/score/softmax.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

using moe::ExpertId;
using moe::Index;
using test::near;

namespace {

auto of_rows(moe::PatchRouterOptions options, Index experts) {
  options.width = options.experts = experts;
  auto router = moe::patch_router<double>(options);
  test::set_parameter(router, "gate.weight", test::identity(experts));
  return router;
}

/// weight[t][e], 0 where e has not taken t: for every segment and expert the l best rows, in order.
test::Matrix naive(const test::Matrix& logit, const test::RouterCall<double>& call, std::size_t l,
                   bool joint) {
  test::Matrix weight(logit.size(), test::Vector(logit[0].size(), 0));
  const std::vector<Index> ends = call.segments.empty() ? std::vector<Index>{0, call.tokens} : call.segments;
  for (std::size_t s = 0; s + 1 < ends.size(); ++s) {
    for (std::size_t e = 0; e < logit[0].size(); ++e) {
      std::vector<std::pair<double, std::size_t>> rows;
      for (Index t = ends[s]; t < ends[s + 1]; ++t) {
        const auto row = static_cast<std::size_t>(t);
        if (call.valid.empty() || call.valid[t]) rows.emplace_back(-logit[row][e], row);
      }
      std::sort(rows.begin(), rows.end());
      rows.resize(std::min(rows.size(), l));
      test::Vector of;
      for (const auto& [minus, row] : rows) of.push_back(-minus);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        weight[rows[i].second][e] = (joint ? test::softmax(of)[i] : 1.0) / static_cast<double>(rows.size());
      }
    }
  }
  return weight;
}

const test::RouterCases kCases{
    // Of equal rows the first are taken, by every expert.
    {"PatchRouter",
     [] { return moe::patch_router<double>({.width = 4, .experts = 5, .patches = 3}); },
     {.ties = false, .losses = false, .segments = true, .tokens = 7}},
    {"PatchRouter, weights of 1",
     [] { return moe::patch_router<double>({.width = 4, .experts = 5, .patches = 2, .joint = false}); },
     {.ties = false, .losses = false, .segments = true, .tokens = 7}},
    {"ColumnShare of probabilities, under a loss",
     [] {
       using Router = moe::TokenChoice<moe::LinearScorer<double>, moe::Softmax, moe::ColumnTopK,
                                       moe::ColumnShare, moe::Balancing<moe::SparsityL1>>;
       return Router{moe::LinearScorer<double>({.width = 4, .outputs = 5}), moe::Softmax{},
                     moe::ColumnTopK({.capacity_factor = 2}), moe::ColumnShare(),
                     moe::Balancing<moe::SparsityL1>(moe::SparsityL1({.coefficient = 0.3}))};
     },
     {.ties = false, .segments = true, .tokens = 7}},
};

}  // namespace

TEST_CASE("patches by hand", "[router]") {
  const auto call = test::call_of({{2, 0}, {1, 5}, {3, 4}, {0, 1}});
  const auto joint = test::route(of_rows({.patches = 2}, 2), call);
  const test::Vector first = test::softmax({2, 3}), second = test::softmax({5, 4});
  test::check_pairs(joint, 0, {0}, {first[0] / 2});
  test::check_pairs(joint, 1, {1}, {second[0] / 2});
  test::check_pairs(joint, 2, {0, 1}, {first[1] / 2, second[1] / 2});
  test::check_pairs(joint, 3, {}, {});  // nobody's
  const auto separate = test::route(of_rows({.patches = 2, .joint = false}, 2), call);
  test::check_pairs(separate, 2, {0, 1}, {0.5, 0.5});
}

TEST_CASE("l = n with weights of 1 is the mean over patches; a softmax sums to 1 before 1 / l", "[router]") {
  auto call = test::random_call<double>(20, 3, 5);
  call.segments = {0, 8, 20};
  const auto mean = test::route(of_rows({.patches = 20, .joint = false}, 3), call);
  for (Index t = 0; t < 20; ++t) {
    const double part = t < 8 ? 1.0 / 8 : 1.0 / 12;
    test::check_pairs(mean, t, {0, 1, 2}, {part, part, part});
  }
  const auto joint = test::route(of_rows({.patches = 4}, 3), call);
  for (ExpertId e = 0; e < 3; ++e) {
    double sum = 0;
    for (Index t = 0; t < 8; ++t) sum += joint.weight_of(t, e);
    CHECK(near(4 * sum, 1));
  }
}

TEST_CASE("patch routing matches plain loops", "[router]") {
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    INFO("seed " << seed);
    auto call = test::random_call<double>(15, 4, seed);
    if (seed % 2 == 0) call.segments = {0, 4, 4, 5, 15};
    if (seed % 3 == 0) {
      call.valid.assign(15, true);
      for (const Index t : {0, 4, 9}) call.valid[t] = false;
    }
    const bool joint = seed % 4 < 2;
    auto router = moe::patch_router<double>({.width = 4, .experts = 3, .patches = 3, .joint = joint});
    test::randomise(router, seed);
    const auto expected = naive(test::linear(test::parameter(router, "gate.weight"), call), call, 3, joint);
    const auto routed = test::route(router, call);
    for (Index t = 0; t < 15; ++t) {
      std::vector<ExpertId> ids;
      test::Vector weights;
      for (ExpertId e = 0; e < 3; ++e) {
        const double w = expected[static_cast<std::size_t>(t)][static_cast<std::size_t>(e)];
        if (w > 0) ids.push_back(e), weights.push_back(w);
      }
      test::check_pairs(routed, t, ids, weights);
    }
  }
}

TEST_CASE("logits far from 0 have shares, not NaN", "[router]") {
  const auto routed = test::route(of_rows({.patches = 3}, 2), test::call_of({{-900, 0}, {800, 0}, {801, 0}}));
  CHECK(near(routed.weight_of(2, 0), test::softmax({0, 1})[1] / 3));
  CHECK(routed.weight_of(0, 0) == 0);
}

TEST_CASE("options of patch routing are checked", "[router]") {
  CHECK_THROWS_WITH(of_rows({.patches = 0}, 2), "moe: patches: expected a value in [1, 2147483647], got 0");
  CHECK_THROWS_AS(of_rows({.patches = -1}, 2), moe::config_error);
  auto call = test::call_of({{1, 2}});
  call.options.capacity_factor = 1;
  CHECK_THROWS_WITH(
      test::route(of_rows({.patches = 3}, 2), call),
      "moe: capacity factor: expected none for experts of 3 rows each, which cannot obey it, got 1");
  call.options = {.experts_per_token = 1};
  CHECK_THROWS_AS(test::route(of_rows({}, 2), call), moe::config_error);
}
