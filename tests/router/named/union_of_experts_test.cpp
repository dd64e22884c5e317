#include "moe/router/named/union_of_experts.hpp"

#include <limits>
#include <vector>

#include "moe/router/scorer/linear.hpp"
#include "moe/router/scorer/noisy.hpp"
#include "moe/router/scorer/segment_pool.hpp"
#include "support/masked_row.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::Index;

template <class R>
void check_against_loops(R router, bool gated) {
  test::randomise(router, 5);
  auto call = test::random_call<double>(30, 4, 3);
  call.segments = {0, 12, 12, 13, 30};
  call.valid.assign(30, true);
  call.valid[4] = call.valid[12] = call.valid[29] = false;  // the third segment has none that takes part
  call.row(4)[1] = std::numeric_limits<double>::quiet_NaN();
  const auto routed = test::route(router, call);
  const test::Matrix weight = test::parameter(router, "gate.weight");
  for (std::size_t s = 0; s < 4; ++s) {
    test::Vector mean(4, 0);
    double rows = 0;
    for (Index t = call.segments[s]; t < call.segments[s + 1]; ++t) {
      for (std::size_t i = 0; call.valid[t] && i < 4; ++i) mean[i] += call.row(t)[i];
      rows += call.valid[t] ? 1 : 0;
    }
    test::Vector logit(6, 0);
    for (std::size_t e = 0; e < 6; ++e) {
      for (std::size_t i = 0; i < 4; ++i) logit[e] += weight[e][i] * mean[i] / rows;
    }
    for (Index t = call.segments[s]; t < call.segments[s + 1]; ++t) {
      if (!call.valid[t]) {
        CHECK(routed.experts_of(t).empty());
        continue;
      }
      const test::Vector p = test::softmax(logit);
      const auto ids = test::best(p, 2);
      test::Vector weights;
      for (const auto e : ids) weights.push_back(gated ? p[static_cast<std::size_t>(e)] : 1);
      test::check_pairs(routed, t, ids, weights);
      CHECK(test::same_row(routed, t, routed, s == 3 ? 28 : 0));  // one route for all of them
    }
  }
}

auto plain() {
  return moe::union_of_experts<double>({.width = 4, .experts = 6, .load_balance = 0.3});
}
auto gated() {
  return moe::gated_union_of_experts<double>({.width = 4, .experts = 6, .load_balance = 0.3});
}

const test::RouterCases kCases{
    {"UnionOfExperts", plain, {.segments = true}},
    {"GatedUnionOfExperts", gated, {.segments = true}},
};

}  // namespace

TEST_CASE("a segment has one route, that of the mean of its rows that take part: against plain loops",
          "[union]") {
  check_against_loops(plain(), false);
  check_against_loops(gated(), true);
}

TEST_CASE("weights of 1 train the router by its loss alone, a gate by the task", "[union]") {
  const auto any = [](auto router, double loss) {
    test::randomise(router, 5);
    auto call = test::random_call<double>(8, 4, 3);
    call.training = true;
    typename decltype(router)::Tape tape;
    test::OwnedTable<double> table(router, call.shape());
    const auto routed = test::route_train(router, call, table, tape);
    auto gradients = router.make_gradients();
    for (const double g :
         test::backward(router, call, table, tape, test::cotangents(call, routed), loss, &gradients)) {
      if (g != 0) return true;
    }
    return false;
  };
  CHECK(!any(plain(), 0));
  CHECK(any(plain(), 1));
  CHECK(any(gated(), 0));
}

TEST_CASE("draws of a pooled row are those of its segment, wherever that stands", "[union]") {
  using Router = moe::TokenChoice<moe::SegmentPool<moe::LinearScorer<double>>, moe::Softmax,
                                  moe::TopKSelection, moe::GatherWeighting>;
  Router router(moe::SegmentPool(moe::LinearScorer<double>({.width = 4, .outputs = 6, .jitter = 0.5})), {},
                moe::TopKSelection(2), {});
  test::randomise(router, 5);
  auto call = test::random_call<double>(10, 4, 3);
  call.training = true;
  call.segments = {0, 6, 10};
  const auto routed = test::route(router, call);
  auto swapped = call.subset({6, 7, 8, 9, 0, 1, 2, 3, 4, 5});
  swapped.segments = {0, 4, 10};
  const auto turned = test::route(router, swapped);
  for (Index t = 0; t < 6; ++t) CHECK(test::same_row(routed, t, turned, t + 4));
  for (Index t = 6; t < 10; ++t) CHECK(test::same_row(routed, t, turned, t - 6));
}

TEST_CASE("a row that is masked whole is not in the mean", "[union]") {
  test::check_masked_row(plain(), test::random_call<double>(6, 4, 3));
  test::check_masked_row(gated(), test::random_call<double>(6, 4, 3));
}

TEST_CASE("options of unions are checked", "[union]") {
  CHECK_THROWS_AS(moe::union_of_experts<double>({.width = 0, .experts = 5}), moe::config_error);
  CHECK_THROWS_AS(moe::union_of_experts<double>({.width = 4, .experts = 5, .k = 6}), moe::config_error);
  CHECK_THROWS_AS(moe::gated_union_of_experts<double>({.width = 4, .experts = 5, .k = 0}), moe::config_error);
  CHECK_THROWS_AS(moe::SegmentPool(moe::NoisyScorer<float>({.width = 3, .outputs = 4})), moe::config_error);
}
