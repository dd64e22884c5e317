// What the presets of moe/models/preset/deepseek.hpp read from a config; that they compute the right thing:
// golden_test.cpp.
#include "moe/models/preset/deepseek.hpp"

#include "models/fixture.hpp"
#include "moe/router/selection/group_limited.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/catch.hpp"

using moe::Normalise;
using test::describe;
using test::edited;

namespace {

void check_refused(const char* folder, const std::string& from, const std::string& to, moe::Index layer) {
  INFO(folder << " with " << to);
  CHECK_THROWS_AS(describe(edited(folder, from, to), layer), moe::config_error);
}

}  // namespace

TEST_CASE("the first layers of the DeepSeek lineage are dense", "[models]") {
  for (const char* const folder :
       {"deepseek_v1", "deepseek_v2", "deepseek_v3", "glm4_moe", "dots1", "kimi_k2", "kimi_linear",
        "lfm2_moe", "afmoe", "bailing_v2", "nemotron_h"}) {
    check_refused(folder, "\"hidden_size\"", "\"hidden_size\"", 0);
  }
  check_refused("deepseek_v3", "\"moe_layer_freq\": 1", "\"moe_layer_freq\": 2", 1);
  check_refused("nemotron_h", "\"hybrid_override_pattern\": \"*E\"", "\"hybrid_override_pattern\": \"EM\"",
                1);
}

TEST_CASE("scores and choices that the presets do not compute are refused", "[models]") {
  check_refused("deepseek_v3", "\"sigmoid\"", "\"softmax\"", 1);
  check_refused("deepseek_v3", "\"noaux_tc\"", "\"greedy\"", 1);
  check_refused("deepseek_v2", "\"group_limited_greedy\"", "\"noaux_tc\"", 1);
  check_refused("deepseek_v4", "\"sqrtsoftplus\"", "\"sigmoid\"", 1);
  check_refused("minimax_m2", "\"scoring_func\": \"sigmoid\"", "\"scoring_func\": \"softmax\"", 0);
  check_refused("longcat_flash", "\"identity\"", "\"zero\"", 0);
  check_refused("kimi_k3", "\"situ\"", "\"silu\"", 1);
  check_refused("nemotron_h", "\"mlp_bias\": false", "\"mlp_bias\": true", 1);
}

TEST_CASE("DeepSeek-V2 scales what it does not normalise", "[models]") {
  const auto spec =
      describe(edited("deepseek_v2", "\"norm_topk_prob\": false", "\"norm_topk_prob\": true"), 1);
  CHECK(weights_of(spec).normalise == Normalise::sum_plus_eps);
  CHECK(weights_of(spec).scale == 16);
  CHECK(!weights_of(spec).scale_normalised);
  const auto* const limited = spec.router.selection.get_if<moe::GroupLimitedSelection>();
  REQUIRE(limited != nullptr);
  CHECK((limited->options().groups == 4 && limited->options().kept == 2));
  CHECK(limited->options().score == moe::GroupScore::highest);
  CHECK(describe(edited("deepseek_v2_2", "\"greedy\"", "\"greedy\""), 1)
            .router.selection.holds<moe::TopKSelection>());
}

TEST_CASE("DeepSeek-V4's first layers choose by token id", "[models]") {
  const auto hashed = describe(edited("deepseek_v4", "\"hidden_size\"", "\"hidden_size\""), 0);
  CHECK((hashed.hash_table && !selects_with_bias(hashed)));
  const auto learned = describe(edited("deepseek_v4", "\"hidden_size\"", "\"hidden_size\""), 1);
  CHECK((!learned.hash_table && selects_with_bias(learned)));
  CHECK((learned.gate.kind == moe::AnyGate::Kind::clamped && learned.gate.limit == 10 &&
         learned.gate.offset == 0));
}

TEST_CASE("configs without shared experts, with null, or without a bias", "[models]") {
  CHECK(describe(edited("deepseek_v3", "\"n_shared_experts\": 1", "\"n_shared_experts\": null"), 1)
            .shared_hidden == 0);
  CHECK(!selects_with_bias(
      describe(edited("lfm2_moe", "\"use_expert_bias\": true", "\"use_expert_bias\": false"), 1)));
  CHECK(describe(edited("nemotron_h_2", "\"moe_latent_size\": 12", "\"moe_latent_size\": null"), 1).latent ==
        0);
  CHECK(describe(edited("nemotron_h_2", "\"hidden_size\"", "\"hidden_size\""), 1).expert_width() == 12);
}

TEST_CASE("Step 3's limits are a layer's own, and of shared experts others", "[models]") {
  using Kind = moe::AnyGate::Kind;
  const auto in = [](const char* folder, moe::Index layer) {
    return describe(edited(folder, "\"hidden_size\"", "\"hidden_size\""), layer);
  };
  const auto limited = in("step3p7_2", 2), free = in("step3p7_2", 1), routed = in("step3p7_3", 2);
  CHECK((limited.gate.kind == Kind::bounded && limited.gate.limit == 1.5));
  CHECK((limited.shared_act->kind == Kind::bounded && limited.shared_act->limit == 2.5));
  CHECK((free.gate.kind == Kind::product && free.shared_act->kind == Kind::product));
  CHECK((routed.gate.kind == Kind::bounded && routed.shared_act->kind == Kind::product));
  check_refused("step3p7", "\"hidden_size\"", "\"hidden_size\"", 0);
}

TEST_CASE("scales that have other names or may be null", "[models]") {
  CHECK(weights_of(describe(edited("mimo_v2_flash", "\"hidden_size\"", "\"hidden_size\""), 1)).scale == 1);
  CHECK(weights_of(describe(edited("hy_v3", "\"hidden_size\"", "\"hidden_size\""), 1)).scale == 2.826);
  CHECK(weights_of(describe(edited("step3p7", "\"hidden_size\"", "\"hidden_size\""), 2)).scale == 3);
  check_refused("glm4_moe", "\"routed_scaling_factor\": 2.5", "\"routed_scaling_factor\": null", 1);
}
