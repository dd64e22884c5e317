#include "moe/router/named/deepseek.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include "moe/router/weighting/gather.hpp"
#include "support/router_cases.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::ExpertId;
using moe::Index;
using test::route;
using test::RouterCall;

/// A gate as the released models' code words it, in plain loops.
struct Gate {
  bool sigmoid = false;
  Index k = 1, groups = 1, kept = 1;
  bool top_two = false, normalise = false;
  double scale = 1;
  std::vector<double> bias{};

  struct Choice {
    std::vector<ExpertId> ids;
    std::vector<double> weights;
  };

  Choice operator()(const std::vector<double>& logit) const {
    const std::size_t n = logit.size();
    std::vector<double> s, c;
    double sum = 0;
    for (const double l : logit) {
      s.push_back(sigmoid ? 1 / (1 + std::exp(-l)) : std::exp(l));
      sum += s.back();
    }
    for (std::size_t e = 0; e < n; ++e) {
      if (!sigmoid) s[e] /= sum;
      c.push_back(s[e] + (bias.empty() ? 0 : bias[e]));
    }
    const std::size_t size = n / static_cast<std::size_t>(groups);
    std::vector<double> of_group;
    for (std::size_t g = 0; g < static_cast<std::size_t>(groups); ++g) {
      std::vector<double> members(c.begin() + static_cast<Index>(g * size),
                                  c.begin() + static_cast<Index>((g + 1) * size));
      std::sort(members.rbegin(), members.rend());
      of_group.push_back(top_two ? members[0] + members[1] : members[0]);
    }
    std::vector<std::size_t> by_group(of_group.size()), open;
    std::iota(by_group.begin(), by_group.end(), std::size_t{0});
    std::sort(by_group.begin(), by_group.end(), [&](std::size_t a, std::size_t b) {
      return of_group[a] != of_group[b] ? of_group[a] > of_group[b] : a < b;
    });
    by_group.resize(static_cast<std::size_t>(kept));
    std::sort(by_group.begin(), by_group.end());
    for (const std::size_t g : by_group) {
      for (std::size_t e = g * size; e < (g + 1) * size; ++e) open.push_back(e);
    }
    std::sort(open.begin(), open.end(),
              [&](std::size_t a, std::size_t b) { return c[a] != c[b] ? c[a] > c[b] : a < b; });
    Choice choice;
    double kept_sum = 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(k); ++i) kept_sum += s[open[i]];
    for (std::size_t i = 0; i < static_cast<std::size_t>(k); ++i) {
      choice.ids.push_back(static_cast<ExpertId>(open[i]));
      choice.weights.push_back(s[open[i]] / (normalise ? kept_sum + 1e-20 : 1) * scale);
    }
    return choice;
  }
};

template <class R>
void check_against_gate(R& router, const Gate& gate) {
  auto gradients = router.make_gradients();
  const auto w = test::elements(router, gradients);
  const auto call = test::random_call<double>(50, router.width(), 6);
  const auto routed = route(router, call);
  for (Index t = 0; t < call.tokens; ++t) {
    std::vector<double> logit;
    for (Index e = 0; e < router.experts(); ++e) {
      double sum = 0;
      for (Index j = 0; j < call.width; ++j) {
        sum += *w[static_cast<std::size_t>(e * call.width + j)].value *
               call.x[static_cast<std::size_t>(t * call.width + j)];
      }
      logit.push_back(sum);
    }
    const Gate::Choice expected = gate(logit);
    INFO("token " << t);
    REQUIRE(routed.experts_of(t) == expected.ids);
    const auto weights = routed.weights_of(t);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      CHECK(std::abs(weights[i] - expected.weights[i]) <= 1e-13 * std::max(1.0, gate.scale));
    }
  }
}

/// Groups of ids that a token reaches.
Index reached(const std::vector<ExpertId>& ids, Index size) {
  std::set<Index> groups;
  for (const ExpertId e : ids) groups.insert(e / size);
  return static_cast<Index>(groups.size());
}

const std::vector<double> kBias{-0.5, 0.1, 0.2, 0, 0.3, -0.2, 0, 0.4, -0.1, 0.2, 0.1, 0.6, 0, 0, -0.3, 0.2};

/// Balanced by hand, so that no choice ties.
moe::DeepSeekV3<double> biased_v3() {
  auto router = moe::deepseek_v3<double>(
      {.width = 5, .experts = 16, .k = 4, .groups = 4, .kept_groups = 2, .sequence_balance = 0.2});
  router.balancing().part<moe::SelectionBias>().set_bias(kBias);
  return router;
}

const test::RouterCases kCases{
    {"DeepSeekV1",
     [] {
       return moe::deepseek_v1<double>(
           {.width = 5, .experts = 8, .k = 3, .expert_balance = 0.1, .device_balance = 0.5, .devices = 4});
     }},
    {"DeepSeekV2",
     [] {
       return moe::deepseek_v2<double>({.width = 5,
                                        .experts = 12,
                                        .k = 3,
                                        .groups = 4,
                                        .kept_groups = 2,
                                        .expert_balance = 0.1,
                                        .device_balance = 0.2,
                                        .communication_balance = 0.3,
                                        .weights = {.scale = 16}});
     },
     {.ties = false}},
    {"DeepSeekV3", biased_v3, {.ties = false, .segments = true}},
};

}  // namespace

TEST_CASE("DeepSeek-V1: softmax, top-k, weights as they are, two losses", "[deepseek]") {
  auto router = moe::deepseek_v1<double>(
      {.width = 5, .experts = 8, .k = 3, .expert_balance = 0.1, .device_balance = 0.5, .devices = 4});
  test::randomise(router, 3);
  check_against_gate(router, {.k = 3});
  auto call = test::random_call<double>(10, 5, 1);
  call.training = true;
  CHECK(route(router, call).loss_names == std::vector<std::string>{"load_balance", "device_balance"});
}

TEST_CASE("DeepSeek-V2: device-limited, scaled, three losses", "[deepseek]") {
  auto router = moe::deepseek_v2<double>({.width = 5,
                                          .experts = 12,
                                          .k = 3,
                                          .groups = 4,
                                          .kept_groups = 2,
                                          .expert_balance = 0.1,
                                          .device_balance = 0.2,
                                          .communication_balance = 0.3,
                                          .weights = {.scale = 16}});
  test::randomise(router, 4);
  check_against_gate(router, {.k = 3, .groups = 4, .kept = 2, .scale = 16});
  auto call = test::random_call<double>(64, 5, 1);
  call.training = true;
  const auto routed = route(router, call);
  CHECK(routed.loss_names ==
        std::vector<std::string>{"load_balance", "device_balance", "communication_balance"});
  for (Index t = 0; t < 64; ++t) CHECK(reached(routed.experts_of(t), 3) <= 2);
}

TEST_CASE("DeepSeek-V3: sigmoid, bias, two best of a group, normalised, scaled, balanced by sequence",
          "[deepseek]") {
  auto router = biased_v3();
  test::randomise(router, 5);
  check_against_gate(router, {.sigmoid = true,
                              .k = 4,
                              .groups = 4,
                              .kept = 2,
                              .top_two = true,
                              .normalise = true,
                              .scale = 2.5,
                              .bias = kBias});
  auto call = test::random_call<double>(64, 5, 1);
  call.training = true;
  call.segments = {0, 20, 64};
  const auto routed = route(router, call);
  CHECK(routed.loss_names == std::vector<std::string>{"sequence_balance"});
  for (Index t = 0; t < 64; ++t) {
    CHECK(reached(routed.experts_of(t), 4) <= 2);
    double sum = 0;
    for (const double w : routed.weights_of(t)) sum += w;
    CHECK(std::abs(sum - 2.5) <= 1e-14);
  }
  const auto state = test::save_state(router);
  REQUIRE(state.size() == 1);
  CHECK(state[0].first == "e_score_correction_bias");
  CHECK(state[0].second == kBias);
}

TEST_CASE("DeepSeek-V3 with negative biases keeps to its groups", "[deepseek]") {
  // What is outside the kept groups is -inf, not 0: with negative biases 0 would win.
  auto router = moe::deepseek_v3<double>({.width = 4, .experts = 8, .k = 3, .groups = 4, .kept_groups = 2});
  test::randomise(router, 6);
  const std::vector<double> values(8, -5);
  router.balancing().part<moe::SelectionBias>().set_bias(values);
  check_against_gate(router, {.sigmoid = true,
                              .k = 3,
                              .groups = 4,
                              .kept = 2,
                              .top_two = true,
                              .normalise = true,
                              .scale = 2.5,
                              .bias = values});
}

TEST_CASE("tiny scores under a large bias still have weights", "[deepseek]") {
  // GLM-5.2's regime: scores near 1e-8, bias near 12. Weights recovered from score + bias - bias would all be
  // 0.
  auto router = moe::deepseek_v3<float>({.width = 1, .experts = 4, .k = 2, .groups = 1, .kept_groups = 1});
  auto gradients = router.make_gradients();
  const auto w = test::elements(router, gradients);
  for (std::size_t e = 0; e < 4; ++e) *w[e].value = -18.0f - static_cast<float>(e);
  router.balancing().part<moe::SelectionBias>().set_bias(std::vector<double>{12, 12.5, 11, 13});
  auto call = test::random_call<float>(1, 1, 1);
  call.x[0] = 1;
  const auto routed = route(router, call);
  CHECK(routed.expert == std::vector<ExpertId>{3, 1});
  const double s3 = 1 / (1 + std::exp(21.0)), s1 = 1 / (1 + std::exp(19.0));
  // Some ten roundings to 24 bits; sigmoids of 20 err by 20 of them at most.
  CHECK(std::abs(static_cast<double>(routed.weight[0]) - 2.5 * s3 / (s1 + s3)) <= 1e-5);
  CHECK(std::abs(static_cast<double>(routed.weight[1]) - 2.5 * s1 / (s1 + s3)) <= 1e-5);
}

TEST_CASE("DeepSeek defaults are those of the released models", "[deepseek]") {
  const moe::DeepSeekV1Options v1;
  CHECK((v1.experts == 64 && v1.k == 6 && v1.width == 2048));
  CHECK(v1.weights.normalise == moe::Normalise::none);
  const moe::DeepSeekV2Options v2;
  CHECK((v2.experts == 160 && v2.k == 6 && v2.width == 5120 && v2.groups == 8 && v2.kept_groups == 3));
  CHECK(v2.weights.scale == 16);
  const moe::DeepSeekV3Options v3;
  CHECK((v3.experts == 256 && v3.k == 8 && v3.width == 7168 && v3.groups == 8 && v3.kept_groups == 4));
  CHECK((v3.weights.normalise == moe::Normalise::sum_plus_eps && v3.weights.eps == 1e-20 &&
         v3.weights.scale == 2.5));
  // They are built from those numbers.
  const auto router = moe::deepseek_v3<float>({.width = 8});
  CHECK(router.max_pairs({10, 1}) == 80);
  CHECK(router.experts() == 256);
}

TEST_CASE("DeepSeek routers refuse sizes that do not fit", "[deepseek]") {
  CHECK_THROWS_AS(moe::deepseek_v1<float>({.width = 2, .experts = 6, .k = 7}), moe::config_error);
  CHECK_THROWS_AS(moe::deepseek_v1<float>({.width = 2, .experts = 6, .k = 2, .devices = 4}),
                  moe::config_error);
  CHECK_THROWS_AS(moe::deepseek_v2<float>({.width = 2, .experts = 12, .k = 2, .groups = 5}),
                  moe::config_error);
  CHECK_THROWS_AS(moe::deepseek_v2<float>({.width = 2, .experts = 12, .k = 7, .groups = 4, .kept_groups = 2}),
                  moe::config_error);
  CHECK_THROWS_AS(moe::deepseek_v3<float>({.width = 2, .experts = 8, .k = 2, .groups = 2, .kept_groups = 3}),
                  moe::config_error);
}

TEST_CASE("DiT-MoE's router is DeepSeekMoE's with the options of its paper", "[deepseek]") {
  auto dit = moe::dit_moe_router<double>({.width = 5});
  auto same = moe::deepseek_v1<double>({.width = 5, .experts = 8, .k = 2, .expert_balance = 0.01});
  test::randomise(dit, 4);
  test::randomise(same, 4);
  auto call = test::random_call<double>(30, 5, 2);
  call.training = true;
  const auto routed = test::route(dit, call);
  CHECK(test::same_route(routed, test::route(same, call)));
  CHECK(test::same_bits(test::all_gradients(dit, call), test::all_gradients(same, call)));
  CHECK(routed.loss_names == std::vector<std::string>{"load_balance"});
  CHECK_THROWS_AS(moe::dit_moe_router<double>({.width = 5, .k = 9}), moe::config_error);
}
