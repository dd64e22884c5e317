// Every number of every part's options, one after the other made one that no part can obey: refused when the
// part is made or put into a router. A part that is listed is tried; a router of router/named has a line.
#include <limits>
#include <string>
#include <type_traits>

#include "moe/catalogue.hpp"
#include "moe/core/type_list.hpp"
#include "moe/plan/capacity/list.hpp"
#include "moe/router/balance/list.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/fields.hpp"
#include "support/sample_parts.hpp"

namespace {

using moe::Index;
constexpr double kNotFinite[] = {std::numeric_limits<double>::quiet_NaN(),
                                 std::numeric_limits<double>::infinity(),
                                 -std::numeric_limits<double>::infinity()};

/// make(options) throws config_error for every one of its numbers that is not finite or below 0, and not for
/// `options`.
template <class Options, class Make>
void check_refuses(const std::string& name, const Options& options, const Make& make) {
  INFO(name);
  CHECK_NOTHROW(make(options));
  const auto refuses = [&](const Options& changed, std::size_t which) {
    const std::string message = test::message_of<moe::config_error>([&] { make(changed); });
    INFO("number " << which << ": " << message);
    CHECK(message.starts_with("moe: "));
  };
  for (const double bad : kNotFinite) {
    INFO("is " << bad);
    test::with_each_number<double>(options, bad, refuses);
  }
  test::with_each_number<Index>(options, Index{-1}, refuses);
}

template <class List>
void check_list(const char* family, List list) {
  moe::for_each_type(list, [&]<class Part>(std::type_identity<Part>) {
    const std::string name = std::string(family) + " " + Part::kName;
    using Options = moe::impl::OptionsOf<Part>;
    if constexpr (!std::is_same_v<Options, moe::impl::Nothing>) {
      Options options{};
      if constexpr (requires { options.width; }) options.width = 5;
      if constexpr (requires { options.outputs; }) options.outputs = test::kSampleOutputs;
      if constexpr (requires { options.hidden; }) options.hidden = 6;
      if constexpr (requires { options.bonus; }) options.width = 2 * test::kSampleOutputs;
      if constexpr (requires { options.ffn; }) options.ffn = 4;
      if constexpr (std::is_same_v<Part, moe::FixedCapacity>) options.factor = 1;
      check_refuses(name, options, [](const Options& o) {
        const Part part(o);
        moe::impl::check_outputs_of(part, test::kSampleOutputs);
      });
    }
  });
}

/// The same of parts that are made of one number.
template <class List>
void check_made_of_numbers(List list) {
  moe::for_each_type(list, []<class Part>(std::type_identity<Part>) {
    if constexpr (std::is_constructible_v<Part, double>) {
      INFO(Part::kName);
      for (const double bad : kNotFinite) CHECK_THROWS_AS(Part(bad), moe::config_error);
    }
  });
}

}  // namespace

TEST_CASE("no listed part takes options that it cannot obey", "[router]") {
  check_list("scorer", moe::Scorers<double>{});
  check_list("map", moe::LogitMaps{});
  check_list("score", moe::Scores{});
  check_list("selection", moe::Selections{});
  check_list("selection", moe::SetSelections{});
  check_list("weighting", moe::Weightings{});
  check_list("balance", moe::BalanceParts{});
  check_list("capacity", moe::Capacities{});
  check_made_of_numbers(moe::LogitMaps{});
  check_made_of_numbers(moe::BalanceParts{});
}

TEST_CASE("no frame, norm or factor takes a number that is not finite", "[router]") {
  for (const double bad : kNotFinite) {
    CHECK_THROWS_AS(moe::ScaledFrame<float>(4, bad), moe::config_error);
    CHECK_THROWS_AS(moe::LatentFrame<float>(4, 2, {.eps = bad}), moe::config_error);
    const moe::LinearScorer<double> scorer({.width = 2, .outputs = 2});
    CHECK_THROWS_AS(moe::NormedScorer(scorer, {.eps = bad}), moe::config_error);
    CHECK_THROWS_AS(moe::NormedScorer(scorer, {.factor = bad}), moe::config_error);
    moe::Buffer<double> eta(2);
    eta[0] = 1;
    eta[1] = bad;
    CHECK_THROWS_AS(moe::LoadBalance({}, std::move(eta)), moe::config_error);
  }
  CHECK_THROWS_AS(moe::ScaledFrame<float>(4, 1e300), moe::config_error);
  CHECK_THROWS_AS(moe::ScaledFrame<float>(-1, 1), moe::config_error);
  CHECK_THROWS_AS(moe::OutputBias<float>(-1), moe::config_error);
  CHECK_THROWS_AS(moe::LatentFrame<float>(-1, 2), moe::config_error);
  CHECK_THROWS_AS(moe::LatentFrame<float>(4, -1), moe::config_error);
}

TEST_CASE("no named router takes options that it cannot obey", "[router]") {
  const moe::TopKOptions top_k{.width = 5, .experts = 8, .k = 2};
  check_refuses("softmax_top_k", top_k, [](const auto& o) { moe::softmax_top_k<double>(o); });
  check_refuses("top_k_softmax", top_k, [](const auto& o) { moe::top_k_softmax<double>(o); });
  check_refuses("sigmoid_top_k", top_k, [](const auto& o) { moe::sigmoid_top_k<double>(o); });
  check_refuses("switch", moe::SwitchOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::switch_router<double>(o); });
  check_refuses("gshard", moe::GShardOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::gshard_router<double>(o); });
  check_refuses("noisy_top_k", moe::NoisyTopKOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::noisy_top_k<double>(o); });
  check_refuses("deepseek_v1", moe::DeepSeekV1Options{.width = 5, .experts = 8},
                [](const auto& o) { moe::deepseek_v1<double>(o); });
  check_refuses("deepseek_v2", moe::DeepSeekV2Options{.width = 5, .experts = 8, .k = 2},
                [](const auto& o) { moe::deepseek_v2<double>(o); });
  check_refuses("deepseek_v3", moe::DeepSeekV3Options{.width = 5, .experts = 16, .k = 2},
                [](const auto& o) { moe::deepseek_v3<double>(o); });
  check_refuses("expert_choice", moe::ExpertChoiceOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::expert_choice<double>(o); });
  check_refuses("patch", moe::PatchRouterOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::patch_router<double>(o); });
  check_refuses("capacity_aware", moe::CapacityAwareOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::capacity_aware<double>(o); });
  check_refuses("open_moe", moe::OpenMoeOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::open_moe<double>(o); });
  check_refuses("v_moe", moe::VMoeOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::v_moe_router<double>(o); });
  check_refuses("relu", moe::ReluOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::relu_router<double>(o); });
  check_refuses("null_experts", moe::NullExpertOptions{.width = 5, .experts = 8, .nulls = 4},
                [](const auto& o) { moe::null_expert_router<double>(o); });
  check_refuses("top_p", moe::TopPOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::top_p_router<double>(o); });
  check_refuses("adaptive_top_two", moe::AdaptiveTopTwoOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::adaptive_top_two_router<double>(o); });
  check_refuses("threshold", moe::ThresholdOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::threshold_router<double>(o); });
  check_refuses("broadcast_top_p", moe::BroadcastTopPOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::broadcast_top_p<double>(o); });
  check_refuses("broadcast_top_k", moe::BroadcastTopKOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::broadcast_top_k<double>(o); });
  check_refuses("each_group", moe::EachGroupOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::each_group_router<double>(o); });
  check_refuses("one_group", moe::OneGroupOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::one_group_router<double>(o); });
  check_refuses("base", moe::BaseOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::base_router<double>(o); });
  check_refuses("bi_level", moe::BiLevelOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::bi_level_router<double>(o); });
  check_refuses("importance", moe::ImportanceTopKOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::importance_router<double>(o); });
  check_refuses("dense_to_sparse", moe::DenseToSparseOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::dense_to_sparse_router<double>(o); });
  check_refuses("frozen_top_k", moe::FrozenTopKOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::frozen_top_k<double>(o); });
  check_refuses("rectified", moe::RectifiedOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::rectified_router<double>(o); });
  check_refuses("cosine_top_k", moe::CosineTopKOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::cosine_top_k<double>(o); });
  check_refuses("cosine_sigmoid_top_k", moe::CosineTopKOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::cosine_sigmoid_top_k<double>(o); });
  check_refuses("attention", moe::AttentionRouterOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::attention_router<double>(o); });
  check_refuses("block_ffn", moe::BlockFfnOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::block_ffn_router<double>(o); });
  check_refuses("kmeans", moe::KMeansOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::kmeans_router<double>(o); });
  check_refuses("cluster", moe::ClusterOptions{.width = 5, .clusters = 8},
                [](const auto& o) { moe::cluster_router<double>(o); });
  check_refuses("expert_cluster", moe::ExpertClusterOptions{.width = 5, .experts = 8, .clusters = 2},
                [](const auto& o) { moe::expert_cluster_router<double>(o); });
  check_refuses("hyper", moe::HyperRouterOptions{.width = 5, .experts = 8, .hidden = 6},
                [](const auto& o) { moe::hyper_router<double>(o); });
  check_refuses("local", moe::LocalRouterOptions{.width = 16, .experts = 8, .devices = 2},
                [](const auto& o) { moe::local_router<double>(o); });
  check_refuses("loss_free", moe::LossFreeOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::loss_free_top_k<double>(o); });
  check_refuses("mixture_of_routers", moe::MixtureOfRoutersOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::mixture_of_routers<double>(o); });
  check_refuses("prototype", moe::PrototypeRouterOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::prototype_router<double>(o); });
  check_refuses("sinkhorn", moe::SinkhornOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::sinkhorn_router<double>(o); });
  check_refuses("selective_sinkhorn", moe::SelectiveSinkhornOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::selective_sinkhorn<double>(o); });
  check_refuses("speech", moe::SpeechRouterOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::speech_router<double>(o); });
  check_refuses("stable", moe::StableOptions{.width = 5, .experts = 8, .vocabulary = 9},
                [](const auto& o) { moe::stable_router<double>(o); });
  check_refuses("token_mask", moe::TokenMaskOptions{.experts = 8}, [](const auto& o) {
    const std::int64_t counts[] = {3, 2, 1};
    moe::TokenMask::by_frequency(counts, o);
  });
  check_refuses("random", moe::RandomRouterOptions{.experts = 8},
                [](const auto& o) { moe::RandomRouter<double>{o}; });
  check_refuses("moe_plus_plus", moe::MoePlusPlusOptions{.width = 5, .ffn = 4},
                [](const auto& o) { moe::moe_plus_plus_router<double>(o); });
  check_refuses("flextron", moe::FlextronRouterOptions{.width = 5, .experts = 8, .hidden = 3},
                [](const auto& o) { moe::flextron_router<double>(o); });
  check_refuses("plan_choice", moe::PlanChoiceOptions{.width = 5, .experts = 8}, [](const auto& o) {
    moe::sinkhorn_expert_choice<double>(o);
    moe::sparse_expert_choice<double>(o);
  });
  check_refuses("rmoe", moe::RmoeOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::rmoe_router<double>(moe::GruCell<double>(5, 5), o); });
  check_refuses("task_expert", moe::TaskExpertOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::task_expert_router<double>(o); });
  check_refuses("uncertain", moe::UncertainRouterOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::uncertain_router<double>(o); });
  check_refuses("codebook", moe::CodebookRouterOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::CodebookRouter<double>{o}; });
  check_refuses("unipool", moe::UniPoolOptions{.width = 5, .experts = 8},
                [](const auto& o) { moe::unipool_router<double>(o); });
}
