#include "moe/router/runtime/token_choice_options.hpp"

#include <vector>

#include "moe/router/hash_table.hpp"
#include "moe/router/named/deepseek.hpp"
#include "moe/router/named/top_k.hpp"
#include "moe/router/selection/group_limited.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::Index;
using moe::Normalise;
using moe::TokenChoiceOptions;

/// The same parameters in the same order, hence the same routes.
template <class R>
void check_same(const TokenChoiceOptions& options, R fixed, const std::vector<double>& bias = {}) {
  auto router = moe::token_choice_router<double>(options);
  test::randomise(router, 4);
  test::randomise(fixed, 4);
  if (!bias.empty()) {
    test::load_state(router, {{"e_score_correction_bias", bias}});
    test::load_state(fixed, {{"e_score_correction_bias", bias}});
  }
  const auto call = test::random_call<double>(40, options.width, 1);
  CHECK(test::same_pairs(test::route(router, call), test::route(fixed, call)));
}

const std::vector<double> kBias{0.3, -0.2, 0.1, 0, -0.4, 0.5, 0.2, -0.1};

}  // namespace

TEST_CASE("routers from options are the routers composed of the parts", "[token_choice_options]") {
  check_same({.width = 5, .outputs = 8, .k = 3},
             moe::softmax_top_k<double>({.width = 5, .experts = 8, .k = 3}));
  check_same(
      {.width = 5,
       .outputs = 8,
       .k = 3,
       .selection = moe::GroupLimitedSelection({.groups = 4, .kept = 2}),
       .weighting = moe::GatherWeighting({.scale = 16})},
      moe::deepseek_v2<double>(
          {.width = 5, .experts = 8, .k = 3, .groups = 4, .kept_groups = 2, .weights = {.scale = 16}}));
  const moe::GatherWeighting::Options shares{.normalise = Normalise::sum_plus_eps, .scale = 2.5};
  TokenChoiceOptions v3{.width = 5,
                        .outputs = 8,
                        .k = 3,
                        .score = moe::SigmoidScore{},
                        .selection = moe::GroupLimitedSelection(
                            {.groups = 4, .kept = 2, .score = moe::GroupScore::top_two_sum}),
                        .weighting = moe::GatherWeighting(shares)};
  v3.balance.set(moe::SelectionBias({.outputs = 8}));
  check_same(v3,
             moe::deepseek_v3<double>(
                 {.width = 5, .experts = 8, .k = 3, .groups = 4, .kept_groups = 2, .weights = shares}),
             kBias);
}

TEST_CASE("every option obeys the laws of routers and matches central differences",
          "[token_choice_options]") {
  const TokenChoiceOptions base{.width = 5, .outputs = 8, .k = 3};
  std::vector<TokenChoiceOptions> all(6, base);
  all[0].scorer = moe::TwoLayerScorerOptions{.hidden = 6};
  all[0].weighting = moe::LeadingWeighting({.leading = 7});
  all[1].scorer = moe::CosineScorerOptions{.projected = 6};
  all[1].weighting = moe::GatherWeighting({.normalise = Normalise::max_with_eps});
  all[2].norm = {.enabled = true, .factor = 0.5};
  all[2].per_expert_scale = true;
  all[2].weighting = moe::GatherWeighting({.normalise = Normalise::sum});
  all[3].score = moe::IdentityScore{};
  all[3].weighting = moe::SigmoidWeighting{};
  all[3].place = moe::WeightPlace::input;
  all[4].score = moe::SqrtSoftplusScore{};
  all[4].balance.set(moe::SelectionBias({.outputs = 8}));
  all[4].balance.set(moe::LoadBalance({.coefficient = 0.3}));
  all[4].map = moe::SoftCap(2);
  all[5].score = moe::IdentityScore{};
  all[5].weighting = moe::SoftmaxWeighting{};
  all[5].map = moe::LogitSpread(1.5);
  all[5].balance.set(moe::ZLoss(0.1));
  for (const TokenChoiceOptions& options : all) {
    INFO("case " << &options - all.data());
    auto router = moe::token_choice_router<double>(options);
    CHECK(router.weight_place() == options.place);
    test::randomise(router, 4);
    if (options.balance.get_if<moe::SelectionBias>() != nullptr) {
      test::load_state(router, {{"e_score_correction_bias", kBias}});
    }
    test::check_router_laws(router, {.parameters = !options.per_expert_scale});
    test::check_router_gradients(router, 4);
  }
}

TEST_CASE("a router from options may choose by a table", "[token_choice_options]") {
  std::vector<moe::ExpertId> ids;
  for (int h = 0; h < 3; ++h) {
    for (int v = 0; v < 50; ++v) ids.push_back((v + 2 * h) % 8);
  }
  auto router =
      moe::token_choice_router<double>({.width = 5, .outputs = 8, .k = 3, .score = moe::SqrtSoftplusScore{}},
                                       moe::HashTable::own(ids, 50, 8, 3));
  test::randomise(router, 4);
  const auto call = test::random_call<double>(20, 5, 1);
  const auto routed = test::route(router, call);
  for (Index t = 0; t < 20; ++t) {
    const int v = call.token_id[static_cast<std::size_t>(t)];
    CHECK(routed.experts_of(t) == std::vector<moe::ExpertId>{v % 8, (v + 2) % 8, (v + 4) % 8});
  }
  CHECK_THROWS_AS(moe::token_choice_router<double>({.width = 5, .outputs = 8, .k = 2},
                                                   moe::HashTable::own(ids, 50, 8, 3)),
                  moe::config_error);
  TokenChoiceOptions biased{.width = 5, .outputs = 8, .k = 3};
  biased.balance.set(moe::SelectionBias({.outputs = 8}));
  CHECK_THROWS_AS(moe::token_choice_router<double>(biased, moe::HashTable::own(ids, 50, 8, 3)),
                  moe::config_error);
}

TEST_CASE("options that do not fit together are refused", "[token_choice_options]") {
  const auto refuse = [](const TokenChoiceOptions& options) {
    CHECK_THROWS_AS(moe::token_choice_router<float>(options), moe::config_error);
  };
  refuse({.width = 5, .outputs = 8, .k = 0});
  refuse({.width = 5, .outputs = 8, .k = 9});
  refuse({.width = 5, .outputs = 8, .k = 2, .weighting = moe::SparseMixerWeighting({})});
  refuse(
      {.width = 5, .outputs = 8, .k = 2, .selection = moe::GroupLimitedSelection({.groups = 3, .kept = 2})});
  // The two best of a group of one: undefined.
  refuse({.width = 5,
          .outputs = 8,
          .k = 2,
          .selection =
              moe::GroupLimitedSelection({.groups = 8, .kept = 4, .score = moe::GroupScore::top_two_sum})});
}
