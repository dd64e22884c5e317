// Parts chosen at run time give the bits of the static ones.
#include "moe/router/runtime/any_parts.hpp"

#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "moe/router/hash_table.hpp"
#include "moe/router/score/list.hpp"
#include "moe/router/score/sqrt_softplus.hpp"
#include "moe/router/selection/group_limited.hpp"
#include "moe/router/selection/list.hpp"
#include "moe/router/selection/table.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/concept.hpp"
#include "moe/router/weighting/gather.hpp"
#include "moe/router/weighting/leading.hpp"
#include "moe/router/weighting/list.hpp"
#include "moe/router/weighting/sparse_mixer.hpp"
#include "support/catch.hpp"
#include "support/one_row.hpp"

namespace {

using moe::Index;
using test::one_row;
constexpr Index kN = 16;

std::vector<float> row(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(kN);
  for (float& v : values) v = normal(random);
  return values;
}

template <class Part>
void check_score(Part part) {
  const moe::AnyScore any = part;
  const std::vector<float> logit = row(1), dscore = row(2), dp = row(3);
  std::vector<float> a(kN), b(kN), da(kN), db(kN), pa(kN), pb(kN), dpa(kN), dpb(kN);
  part.forward(one_row<float>(logit.data(), nullptr, kN), a.data());
  any.forward(one_row<float>(logit.data(), nullptr, kN), b.data());
  CHECK(a == b);
  const auto context = one_row<float>(logit.data(), a.data(), kN);
  part.backward(context, dscore.data(), da.data());
  any.backward(context, dscore.data(), db.data());
  part.probability(context, pa.data());
  any.probability(context, pb.data());
  part.probability_backward(context, pa.data(), dp.data(), dpa.data());
  any.probability_backward(context, pb.data(), dp.data(), dpb.data());
  CHECK(da == db);
  CHECK(pa == pb);
  CHECK(dpa == dpb);
  CHECK(std::string(any.name()) == Part::kName);
}

template <class Part>
void check_selection(Part part) {
  const moe::AnySelection any = part;
  const std::vector<float> logit = row(5);
  std::vector<float> choice = row(4), same = choice;
  std::vector<moe::ExpertId> a(kN, -1), b(kN, -1);
  const moe::TokenId id = 2;
  moe::RouterInput<float> call;
  call.token_id = {&id, 1};
  call.features = {logit.data(), 1, 1};
  CHECK(part.most({}, kN) == any.most({}, kN));
  const auto context = one_row<float>(call, logit.data(), logit.data(), kN);
  const Index count = part.select(context, choice.data(), a.data());
  CHECK(count == any.select(context, same.data(), b.data()));
  CHECK(a == b);
}

template <class Part>
void check_weighting(Part part) {
  const moe::AnyWeighting any = part;
  const moe::ExpertId ids[] = {7, 1, 10};
  const moe::Chosen chosen{ids, 3};
  std::vector<float> score = row(5), dweight = row(6), a(3), b(3), da(kN), db(kN);
  for (float& s : score) s = s * s;
  bool keep_a[3] = {}, keep_b[3] = {};
  moe::RouterInput<float> call;
  call.training = true;
  call.draws = moe::DrawKey{1, 2};
  const auto context = one_row<float>(call, nullptr, score.data(), kN);
  part.forward(context, chosen, a.data(), keep_a);
  any.forward(context, chosen, b.data(), keep_b);
  part.backward(context, chosen, dweight.data(), da.data());
  any.backward(context, chosen, dweight.data(), db.data());
  CHECK(moe::impl::experts_of(part, kN) == any.experts(kN));
  CHECK(a == b);
  CHECK(da == db);
  for (int i = 0; i < 3; ++i) CHECK(keep_a[i] == keep_b[i]);
}

/// A part of a list with its default options.
template <class Part>
Part default_part() {
  if constexpr (std::is_default_constructible_v<Part>) {
    return Part();
  } else if constexpr (std::is_same_v<Part, moe::TableSelection>) {
    const std::vector<moe::ExpertId> table{3, 4, 5, 6, 7, 8};
    return Part(moe::HashTable::own(table, 3, kN, 2));
  } else {
    return Part(typename Part::Options());
  }
}

}  // namespace

TEST_CASE("every part of every list runs as the static part", "[router][smoke]") {
  moe::for_each_type(moe::Scores{},
                     []<class Part>(std::type_identity<Part>) { check_score(default_part<Part>()); });
  moe::for_each_type(moe::Selections{},
                     []<class Part>(std::type_identity<Part>) { check_selection(default_part<Part>()); });
  moe::for_each_type(moe::Weightings{},
                     []<class Part>(std::type_identity<Part>) { check_weighting(default_part<Part>()); });
  check_selection(
      moe::GroupLimitedSelection({.k = 2, .groups = 4, .kept = 2, .score = moe::GroupScore::top_two_sum}));
  check_weighting(moe::GatherWeighting({.normalise = moe::Normalise::sum, .scale = 2}));
  check_weighting(moe::LeadingWeighting({.leading = 8, .elide_rest = true}));
}

TEST_CASE("parts are found by name", "[router]") {
  CHECK(moe::score_named("sqrt_softplus").holds<moe::SqrtSoftplusScore>());
  CHECK(moe::selection_named("top_k").get_if<moe::TopKSelection>()->k() == 1);
  CHECK_THROWS_WITH(  // a table is no default
      moe::selection_named("table"),
      "moe: selection: expected one of top_k, group_limited, positive, top_p, adaptive_top_two, threshold, "
      "each_group, importance_top_k, plackett_luce, sparse_mixer, got table");
  CHECK(moe::weighting_named("sparse_mixer").holds<moe::SparseMixerWeighting>());
  CHECK_THROWS_WITH(
      moe::score_named("sofmax"),
      "moe: score: expected one of softmax, sigmoid, relu, identity, group_softmax, sqrt_softplus, "
      "relu_rms, got sofmax");
}
