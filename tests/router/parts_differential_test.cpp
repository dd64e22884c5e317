// Every part of every router list against plain loops (support/plain_parts.hpp), in calls with and without
// masks, padding, segments and training. A listed part without plain loops fails, by name.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "moe/core/random.hpp"
#include "moe/core/type_list.hpp"
#include "moe/router/runtime/token_choice_options.hpp"
#include "support/catch.hpp"
#include "support/plain_parts.hpp"
#include "support/plain_routing.hpp"
#include "support/router_laws.hpp"
#include "support/sample_parts.hpp"

namespace {

using moe::DrawStream;
using moe::ExpertId;
using moe::Index;
using test::kSampleOutputs;
using test::Matrix;
using test::Vector;
using Call = test::RouterCall<double>;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Some dozens of roundings of numbers of size 1 or so: logits are sums of 6 products, scores of 8 terms.
constexpr double kBound = 64 * 0x1p-53;

/// Parameters in U(-1, 1), state in U(0.1, 0.9), by name.
template <class R>
std::map<std::string, Matrix> drawn_values(R& router) {
  test::randomise(router, 77);
  std::map<std::string, Matrix> values;
  const auto look = [&](const moe::Parameter<double>& p) {
    values[p.name] = test::parameter(router, p.name);
  };
  router.visit_parameters(nullptr, look);
  const auto draw = [&](const char* name, double* v, Index n) {
    for (Index i = 0; i < n; ++i) {
      v[i] = 0.1 + 0.8 * moe::KeyedRandom(5, 0, DrawStream::user).uniform(static_cast<std::uint64_t>(i), 0);
      values[name].push_back({v[i]});
    }
  };
  router.visit_state(draw);
  return values;
}

Call call_number(std::uint64_t i, Index width, bool outside) {
  Call call = test::random_call<double>(9, width, 100 + i);
  test::add_targets(call, kSampleOutputs);
  call.training = i % 2 == 1;
  call.seed = i;
  if (i / 2 % 3 > 0) test::mask_some(call, kSampleOutputs, i / 2 % 3 == 2);
  for (std::size_t j = 0; j < call.mask.size(); ++j)
    call.mask[j] += 0.1 * static_cast<double>(j % 7);  // masks may be of finite numbers, too
  if (i / 6 % 2 == 1) {
    call.valid.assign(call.tokens, true);
    for (const Index t : {2, 3, 7}) call.valid[t] = false;
  }
  if (i / 12 % 2 == 1) call.segments = {0, 2, 2, 4, 9};
  if (i / 12 % 2 == 1 && outside) call.outside_counts = {3, 0, 1, 4, 1, 5, 9, 2};
  return call;
}

/// The router's calls against the steps in their order.
template <class R>
void compare(R router, const std::vector<std::string>& steps, const test::PlainOptions& options = {}) {
  const auto values = drawn_values(router);
  for (const std::string& step : steps) {
    INFO("no plain loops for the " << step);
    REQUIRE(test::plain_parts().contains(step));
  }
  for (std::uint64_t i = 0; i < 24; ++i) {
    INFO("call " << i);
    const Call call = call_number(i, router.width(), router.experts() == kSampleOutputs);
    test::PlainBatch b(call, values, options);
    for (const std::string& step : steps) {
      if (step.starts_with("score ")) {
        for (std::size_t t = 0; !call.mask.empty() && t < b.rows(); ++t) {
          for (std::size_t e = 0; e < b.logit[t].size(); ++e) {
            const double mask = call.mask[(call.mask_per_row ? t * b.logit[t].size() : 0) + e];
            b.logit[t][e] += mask;
            if (!b.clean.empty()) b.clean[t][e] += mask;
          }
        }
      }
      test::plain_parts().at(step)(b);
      if (step.starts_with("score ")) {
        b.choice = b.score;
        for (std::size_t t = 0; t < b.rows(); ++t) {
          for (std::size_t e = 0; e < b.choice[t].size(); ++e) {
            if (b.logit[t][e] == -kInfinity) b.choice[t][e] = -kInfinity;
          }
        }
      }
    }
    const auto routed = test::route(router, call);
    for (std::size_t t = 0; t < b.rows(); ++t) {
      std::vector<ExpertId> ids;
      Vector weights;
      for (std::size_t c = 0; c < b.chosen[t].size(); ++c) {
        if (!b.keep[t][c]) continue;
        ids.push_back(b.chosen[t][c]);
        weights.push_back(b.weight[t][c]);
      }
      test::check_pairs(routed, static_cast<Index>(t), ids, weights, kBound);
    }
    REQUIRE(routed.losses.size() == b.losses.size());
    for (const auto& [name, value] : b.losses) {
      INFO(name << ": " << test::loss_of(routed, name) << ", expected " << value);
      // The z-loss of logarithms of probabilities is 0 but for rounding.
      CHECK((test::near(test::loss_of(routed, name) / value, 1, kBound) ||
             std::max(std::abs(test::loss_of(routed, name)), std::abs(value)) < kBound * kBound));
    }
  }
}

moe::TokenChoiceOptions base() {
  return {.width = 5, .outputs = kSampleOutputs, .k = 3, .scorer = moe::LinearScorerOptions{.jitter = 0.1}};
}
const std::vector<std::string> kBase{"scorer linear", "score softmax", "selection top_k", "weighting gather"};

/// compare_with.<Part>(name) for every part of a list.
template <class List, class F>
void sweep(List list, const std::string& family, std::set<std::string>& seen, F compare_with) {
  moe::for_each_type(list, [&]<class Part>(std::type_identity<Part>) {
    const std::string name = family + " " + Part::kName;
    INFO(name);
    seen.insert(name);
    if (test::plain_parts().contains(name)) {
      compare_with.template operator()<Part>(name);
    } else {
      FAIL_CHECK("no plain loops for the listed part: " << name);
    }
  });
}

/// A router that holds this weighting or balancing part with options of its own.
void compare_weighting(const moe::AnyWeighting& part, const char* name, const test::PlainOptions& options) {
  INFO(name << ", " << options.normalise << ", " << options.weights);
  auto made = base();
  made.weighting = part;
  compare(moe::token_choice_router<double>(made), {"scorer linear", "score softmax", "selection top_k", name},
          options);
}
template <class Loss>
void compare_loss(const Loss& loss, const test::PlainOptions& options) {
  auto made = base();
  made.balance.set(loss);
  auto steps = kBase;
  steps.push_back(std::string("balance ") + Loss::kName);
  compare(moe::token_choice_router<double>(made), steps, options);
}

}  // namespace

TEST_CASE("every part of every list agrees with plain loops", "[router]") {
  std::set<std::string> seen;
  sweep(moe::Scorers<double>{}, "scorer", seen, []<class Part>(const std::string& name) {
    auto scorer = test::sample_scorer_options<Part>();
    if constexpr (requires { scorer.bias; }) scorer.bias = true;
    if constexpr (requires { scorer.jitter; }) scorer.jitter = 0.1;
    auto options = base();
    options.scorer = scorer;
    options.balance.set(moe::ZLoss());  // of the clean logits
    auto steps = kBase;
    steps[0] = name;
    steps.emplace_back("balance z_loss");
    compare(moe::token_choice_router<double>(options), steps);
  });
  sweep(moe::LogitMaps{}, "map", seen, []<class Part>(const std::string& name) {
    auto options = base();
    options.map = test::sample_part<Part>();
    auto steps = kBase;
    steps.insert(steps.begin() + 1, name);
    compare(moe::token_choice_router<double>(options), steps);
  });
  sweep(moe::Scores{}, "score", seen, []<class Part>(const std::string& name) {
    auto options = base();
    options.score = test::sample_part<Part>();
    options.balance.set(moe::LoadBalance());  // of the probabilities
    auto steps = kBase;
    steps[1] = name;
    steps.emplace_back("balance load_balance");
    compare(moe::token_choice_router<double>(options), steps);
  });
  sweep(moe::Selections{}, "selection", seen, []<class Part>(const std::string& name) {
    auto options = base();
    options.selection = test::sample_part<Part>();
    const bool positive = std::is_same_v<Part, moe::PositiveSelection>;
    if (positive) options.score = moe::ReluScore{};
    compare(moe::token_choice_router<double>(options),
            {"scorer linear", positive ? "score relu" : "score softmax", name, "weighting gather"});
  });
  sweep(moe::SetSelections{}, "selection", seen, []<class Part>(const std::string& name) {
    using Router = moe::TokenChoice<moe::LinearScorer<double>, moe::Softmax, Part, moe::GatherWeighting>;
    const moe::LinearScorer<double> scorer({.width = 5, .outputs = kSampleOutputs, .jitter = 0.1});
    compare(Router(scorer, moe::Softmax{}, test::sample_part<Part>(), moe::GatherWeighting{}),
            {"scorer linear", "score softmax", name, "weighting gather"});
  });
  sweep(moe::Weightings{}, "weighting", seen, []<class Part>(const std::string& name) {
    auto options = base();
    test::PlainOptions plain;
    options.weighting = test::sample_part<Part>();
    const bool of_logits =
        std::is_same_v<Part, moe::SparseMixerWeighting> || std::is_same_v<Part, moe::GrinWeighting>;
    if (of_logits) options.score = moe::IdentityScore{};
    if (std::is_same_v<Part, moe::RandomSecondWeighting>) options.k = 2, plain.k = 2;
    compare(moe::token_choice_router<double>(options),
            {"scorer linear", of_logits ? "score identity" : "score softmax", "selection top_k", name},
            plain);
  });
  sweep(moe::BalanceParts{}, "balance", seen, []<class Part>(const std::string& name) {
    auto options = base();
    auto steps = kBase;
    options.balance.set(test::sample_part<Part>());
    if (std::is_same_v<Part, moe::LoadLoss>) {
      options.scorer = moe::NoisyScorerOptions{};
      steps[0] = "scorer noisy";
    }
    if (std::is_same_v<Part, moe::AdaptiveL1>) {  // of ReLU routing
      options.score = moe::ReluScore{};
      options.selection = moe::PositiveSelection{};
      steps[1] = "score relu";
      steps[2] = "selection positive";
    }
    steps.insert(std::is_same_v<Part, moe::SelectionBias> ? steps.begin() + 2 : steps.end(), name);
    compare(moe::token_choice_router<double>(options), steps);
  });
  for (const auto& [name, step] : test::plain_parts()) {
    INFO("plain loops for a part that is in no list: " << name);
    CHECK(seen.contains(name));
  }
}

TEST_CASE("the options of listed parts agree with plain loops", "[router]") {
  using moe::Normalise;
  for (const auto& [normalise, name, eps] :
       {std::tuple{Normalise::sum, "sum", 0.0}, std::tuple{Normalise::sum_plus_eps, "sum_plus_eps", 0.2},
        std::tuple{Normalise::max_with_eps, "max_with_eps", 0.7},
        std::tuple{Normalise::p_norm, "p_norm", 0.0}}) {
    compare_weighting(moe::GatherWeighting({.normalise = normalise, .eps = eps, .scale = 2.5, .p = 3}),
                      "weighting gather", {.normalise = name, .eps = eps, .scale = 2.5, .p = 3});
  }
  compare_weighting(moe::LeadingWeighting({.leading = 7, .elide_rest = true}), "weighting leading",
                    {.elide = true});
  using Weights = moe::MoePlusPlusWeights;
  compare_weighting(moe::MoePlusPlusWeighting({.weights = Weights::shares}), "weighting moe_plus_plus",
                    {.weights = "shares"});
  compare_weighting(moe::MoePlusPlusWeighting({.weights = Weights::shares_without_zeros, .first_zero = 6}),
                    "weighting moe_plus_plus", {.weights = "shares_without_zeros", .first_zero = 6});

  compare_weighting(moe::GateWeighting({.experts = 7, .straight_through = true, .threshold = 0.2}),
                    "weighting gate", {.straight = true});

  compare_loss(moe::LoadBalance({.first_choice_only = true}), {.first_only = true});
  compare_loss(moe::LoadBalance({.nulls = 3}), {.nulls = 3});
  compare_loss(moe::LoadBalance({.most_likely_only = true}), {.most_likely = true});
  compare_loss(
      moe::RatioLoss({.coefficient = 0.4, .target = 0.3, .form = moe::RatioForm::above, .output = 2}),
      {.above = true});
  compare_loss(moe::EntropyLoss({.coefficient = 0.4}), {.order = 1, .fraction = false});

  auto options = base();
  for (const auto& [rule, name] :
       {std::pair{moe::MassRule::reaches, "reaches"}, std::pair{moe::MassRule::within, "within"}}) {
    options.selection = moe::TopPSelection({.p = 0.6, .rule = rule, .least = 2});
    compare(moe::token_choice_router<double>(options),
            {"scorer linear", "score softmax", "selection top_p", "weighting gather"},
            {.mass = name, .least = 2});
  }
  options.selection =
      moe::GroupLimitedSelection({.k = 3, .groups = 4, .kept = 2, .score = moe::GroupScore::sum});
  compare(moe::token_choice_router<double>(options),
          {"scorer linear", "score softmax", "selection group_limited", "weighting gather"},
          {.group = "sum"});
  options.selection =
      moe::GroupLimitedSelection({.k = 3, .groups = 4, .kept = 2, .score = moe::GroupScore::top_two_sum});
  options.balance.set(test::sample_part<moe::SelectionBias>());
  compare(moe::token_choice_router<double>(options),
          {"scorer linear", "score softmax", "balance selection_bias", "selection group_limited",
           "weighting gather"},
          {.group = "top_two"});
  for (const auto counts : {moe::SequenceCounts::best_scores, moe::SequenceCounts::chosen}) {
    options.balance.set(moe::SequenceBalance({.counts = counts}));
    compare(moe::token_choice_router<double>(options),
            {"scorer linear", "score softmax", "balance selection_bias", "selection group_limited",
             "weighting gather", "balance sequence_balance"},
            {.group = "top_two", .of_chosen = counts == moe::SequenceCounts::chosen});
  }
}
