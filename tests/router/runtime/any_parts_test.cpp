// Parts chosen at run time give the bits of the static ones.
#include "moe/router/runtime/any_parts.hpp"

#include <random>
#include <vector>

#include "moe/router/hash_table.hpp"
#include "moe/router/score/identity.hpp"
#include "moe/router/score/relu.hpp"
#include "moe/router/score/sigmoid.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/score/sqrt_softplus.hpp"
#include "moe/router/selection/group_limited.hpp"
#include "moe/router/selection/positive.hpp"
#include "moe/router/selection/table.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/concept.hpp"
#include "moe/router/weighting/gather.hpp"
#include "moe/router/weighting/leading.hpp"
#include "moe/router/weighting/sigmoid.hpp"
#include "moe/router/weighting/softmax.hpp"
#include "moe/router/weighting/sparse_mixer.hpp"
#include "support/catch.hpp"

namespace {

using moe::Index;
constexpr Index kN = 12;

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
  part.forward(logit.data(), a.data(), kN);
  any.forward(logit.data(), b.data(), kN);
  part.backward(logit.data(), a.data(), dscore.data(), da.data(), kN);
  any.backward(logit.data(), b.data(), dscore.data(), db.data(), kN);
  part.probability(a.data(), pa.data(), kN);
  any.probability(b.data(), pb.data(), kN);
  part.probability_backward(a.data(), pa.data(), dp.data(), dpa.data(), kN);
  any.probability_backward(b.data(), pb.data(), dp.data(), dpb.data(), kN);
  CHECK(a == b);
  CHECK(da == db);
  CHECK(pa == pb);
  CHECK(dpa == dpb);
}

template <class Part>
void check_selection(Part part) {
  const moe::AnySelection any = part;
  std::vector<float> choice = row(4), same = choice;
  std::vector<moe::ExpertId> a(kN, -1), b(kN, -1);
  CHECK(part.most(0, kN) == any.most(0, kN));
  Index count = 0;
  if constexpr (moe::TokenSelection<Part>) {
    count = part.select(choice.data(), kN, 0, 2, a.data());
  } else {
    count = part.select(choice.data(), kN, 0, a.data());
  }
  CHECK(count == any.select(same.data(), kN, 0, 2, b.data()));
  CHECK(a == b);
}

template <class Part>
void check_weighting(Part part) {
  const moe::AnyWeighting any = part;
  const moe::ExpertId ids[] = {7, 1, 10};
  const moe::Chosen chosen{ids, 3, 0.5, true};
  std::vector<float> score = row(5), dweight = row(6), a(3), b(3), da(kN), db(kN);
  for (float& s : score) s = s * s;
  bool keep_a[3] = {}, keep_b[3] = {};
  part.forward(chosen, score.data(), a.data(), keep_a);
  any.forward(chosen, score.data(), b.data(), keep_b);
  part.backward(chosen, score.data(), dweight.data(), da.data());
  any.backward(chosen, score.data(), dweight.data(), db.data());
  CHECK(part.experts(kN) == any.experts(kN));
  CHECK(a == b);
  CHECK(da == db);
  for (int i = 0; i < 3; ++i) CHECK(keep_a[i] == keep_b[i]);
}

}  // namespace

TEST_CASE("run-time parts run the static parts", "[router][smoke]") {
  check_score(moe::Softmax{});
  check_score(moe::SigmoidScore{});
  check_score(moe::ReluScore{});
  check_score(moe::IdentityScore{});
  check_score(moe::SqrtSoftplusScore{});
  check_selection(moe::TopKSelection(3));
  check_selection(
      moe::GroupLimitedSelection({.k = 2, .groups = 4, .kept = 2, .score = moe::GroupScore::top_two_sum}));
  check_selection(moe::PositiveSelection{});
  const std::vector<moe::ExpertId> table{3, 4, 5, 6, 7, 8};
  check_selection(moe::TableSelection(moe::HashTable::own(table, 3, kN, 2)));
  check_weighting(moe::GatherWeighting({.normalise = moe::Normalise::sum, .scale = 2}));
  check_weighting(moe::SoftmaxWeighting{});
  check_weighting(moe::SigmoidWeighting{});
  check_weighting(moe::SparseMixerWeighting(kN, 0.3));
  check_weighting(moe::LeadingWeighting(8, true));
}
