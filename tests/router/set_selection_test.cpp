// A selection over a set of rows that is not the library's: a greedy assignment, as BASE layers make one,
// over each segment or over the batch.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/balance/load_balance.hpp"
#include "moe/router/balance/selection_bias.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/sigmoid.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::Coupling;
using moe::ExpertId;
using moe::Index;
constexpr Index kWidth = 4, kOutputs = 5;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Pairs (row, output) by falling choice score, ties to the lower row and id, are taken while the row has
/// none and the output fewer than its share, the rows over N rounded up.
template <Coupling kReach>
struct GreedyAssignment {
  static constexpr const char* kName = "greedy_assignment";
  static constexpr Coupling coupling(bool) noexcept { return kReach; }

  Index max_pairs(const moe::CallShape& shape, Index) const { return shape.tokens; }
  void measure(moe::Arena& arena, Index tokens, Index outputs) const { Scratch{arena, tokens, outputs}; }

  template <class Real, moe::Executor X>
  void select_set(const moe::SetCall<Real>& set, ExpertId* chosen, Index* count, moe::Arena& arena,
                  X& executor) const {
    const Index tokens = set.choice.rows;
    const Scratch scratch(arena, tokens, set.choice.cols);
    const moe::Segments segments = kReach == Coupling::per_batch ? moe::Segments() : set.call.segments;
    for (Index t = 0; t < tokens; ++t) count[t] = 0;
    executor.parallel_for(segments.count(tokens), [&](Index s, Index) noexcept {
      assign(set, segments.begin(s), segments.end(s, tokens), scratch, chosen, count);
    });
  }

 private:
  struct Scratch {
    Index* pair;   // [T N] t N + e
    Index* taken;  // [T N] a segment's [N] counts at its first row
    Scratch(moe::Arena& arena, Index tokens, Index outputs)
        : pair(arena.take<Index>(tokens * outputs)), taken(arena.take<Index>(tokens * outputs)) {}
  };

  template <class Real>
  static void assign(const moe::SetCall<Real>& set, Index first, Index last, const Scratch& scratch,
                     ExpertId* chosen, Index* count) noexcept {
    if (first == last) return;
    const Index n = set.choice.cols;
    Index* const pair = scratch.pair + first * n;
    Index* const taken = scratch.taken + first * n;
    std::fill_n(taken, n, Index{0});
    Index pairs = 0, active = 0;
    for (Index t = first; t < last; ++t) {
      active += set.active[t] ? 1 : 0;
      for (Index e = 0; set.active[t] && e < n; ++e) {
        if (!moe::is_neg_inf(set.choice(t, e))) pair[pairs++] = t * n + e;
      }
    }
    std::sort(pair, pair + pairs, [&](Index a, Index b) {
      const Real of_a = set.choice(a / n, a % n), of_b = set.choice(b / n, b % n);
      return of_a != of_b ? of_a > of_b : a < b;
    });
    for (Index i = 0; i < pairs; ++i) {
      const Index t = pair[i] / n, e = pair[i] % n;
      if (count[t] > 0 || taken[e] == moe::ceil_div(active, n)) continue;
      chosen[t * n] = static_cast<ExpertId>(e);
      count[t] = 1;
      ++taken[e];
    }
  }
};

/// Keeps what it is shown; chooses output 0 for everyone.
struct Witness {
  static constexpr Coupling coupling(bool) noexcept { return Coupling::per_segment; }
  test::Matrix *choice, *logit, *score;
  std::vector<bool>* active;

  Index max_pairs(const moe::CallShape& shape, Index) const { return shape.tokens; }
  void measure(moe::Arena&, Index, Index) const {}
  template <class Real, moe::Executor X>
  void select_set(const moe::SetCall<Real>& set, ExpertId* chosen, Index* count, moe::Arena&, X&) const {
    for (Index t = 0; t < set.choice.rows; ++t) {
      const auto row = [&](const auto& m) { return test::Vector(m.row(t), m.row(t) + m.cols); };
      active->push_back(set.active[t]);
      choice->push_back(row(set.choice));
      logit->push_back(row(set.logit));
      score->push_back(row(set.score));
      chosen[t * set.choice.cols] = 0;
      count[t] = set.active[t] ? 1 : 0;
    }
  }
};

/// A set weighting that has the least: what the selection left of the choice scores, as constants.
struct ChoiceWeights {
  static constexpr Coupling coupling(bool) noexcept { return Coupling::per_segment; }
  void measure(moe::Arena&, Index, Index) const {}
  template <class Real, moe::Executor X>
  void set_weights(const moe::SetCall<Real>& set, const moe::ChosenSet& chosen, Real* weight, bool* keep,
                   moe::Arena&, X&) const {
    for (Index t = 0; t < set.choice.rows; ++t) {
      const moe::Chosen own = chosen.of(t);
      for (Index i = 0; i < own.count; ++i) {
        weight[t * chosen.most + i] = set.choice(t, own.id[i]);
        keep[t * chosen.most + i] = own.id[i] != 0;
      }
    }
  }
  template <class Real, moe::Executor X>
  void set_weights_backward(const moe::SetCall<Real>&, const moe::ChosenSet&, const Real*,
                            const moe::MatrixView<Real>&, moe::Arena&, X&) const {}
};

using PerSegment = GreedyAssignment<Coupling::per_segment>;
using PerBatch = GreedyAssignment<Coupling::per_batch>;
template <class Select, class... Balance>
auto router_of(Select selection, Balance... balance) {
  return moe::TokenChoice<moe::LinearScorer<double>, moe::SigmoidScore, Select, moe::GatherWeighting,
                          moe::Balancing<Balance...>>(
      moe::LinearScorer<double>({.width = kWidth, .outputs = kOutputs}), moe::SigmoidScore(), selection,
      moe::GatherWeighting(), moe::Balancing<Balance...>(balance...));
}

// Rows of zeros all want output 0, and few get it.
const test::RouterCases kCases{
    {"a set selection of one's own, by segment",
     [] { return router_of(PerSegment(), moe::LoadBalance({.coefficient = 0.3})); },
     {.ties = false, .smoke = true, .segments = true}},
    {"a set selection of one's own, over the batch",
     [] { return router_of(PerBatch(), moe::LoadBalance({.coefficient = 0.3})); },
     {.ties = false, .segments = true}}};

}  // namespace

TEST_CASE("an assignment gives every row one output and every output its share of each segment",
          "[set_selection][smoke]") {
  STATIC_REQUIRE(moe::SetSelection<PerSegment>);
  STATIC_REQUIRE(!moe::Selection<PerSegment>);
  auto router = router_of(PerSegment(), moe::SelectionBias({.outputs = kOutputs}));
  STATIC_REQUIRE(decltype(router)::coupling(false) == Coupling::per_segment);
  STATIC_REQUIRE(decltype(router_of(PerBatch(), moe::SelectionBias({})))::coupling(false) ==
                 Coupling::per_batch);
  test::randomise(router, 3);
  auto call = test::random_call<double>(23, kWidth, 2);
  call.segments = {0, 7, 7, 8, 23};
  CHECK(router.max_pairs(call.shape()) == 23);
  const auto routed = test::route(router, call);
  const test::Matrix logits = test::linear(test::parameter(router, "gate.weight"), call);
  for (std::size_t s = 0; s + 1 < call.segments.size(); ++s) {
    const Index first = call.segments[s], last = call.segments[s + 1];
    std::vector<Index> taken(kOutputs, 0);
    for (Index t = first; t < last; ++t) {
      const auto ids = routed.experts_of(t);
      REQUIRE(ids.size() == 1);
      const auto e = static_cast<std::size_t>(ids[0]);
      ++taken[e];
      CHECK(test::near(routed.weights_of(t)[0], 1 / (1 + std::exp(-logits[static_cast<std::size_t>(t)][e]))));
    }
    for (const Index rows : taken) CHECK(rows <= (last - first + kOutputs - 1) / kOutputs);
  }
  // A segment alone is routed as among others.
  for (std::size_t s = 0; s + 1 < call.segments.size(); ++s) {
    std::vector<Index> rows;
    for (Index t = call.segments[s]; t < call.segments[s + 1]; ++t) rows.push_back(t);
    if (rows.empty()) continue;
    const auto alone = test::route(router, call.subset(rows));
    for (std::size_t i = 0; i < rows.size(); ++i) {
      CHECK(test::same_row(routed, rows[i], alone, static_cast<Index>(i)));
    }
  }
}

TEST_CASE("one that says it looks over the batch does", "[set_selection]") {
  auto router = router_of(PerBatch());
  test::randomise(router, 3);
  auto call = test::random_call<double>(20, kWidth, 2);
  call.segments = {0, 10, 20};
  auto other = call;
  for (Index t = 10; t < 20; ++t) std::fill_n(other.row(t), kWidth, 3);
  const auto before = test::route(router, call), after = test::route(router, other);
  int changed = 0;
  for (Index t = 0; t < 10; ++t) changed += test::same_row(before, t, after, t) ? 0 : 1;
  CHECK(changed > 0);
}

TEST_CASE("a set weighting sees what the selection left, and may keep a pair out", "[set_selection]") {
  STATIC_REQUIRE(moe::SetWeighting<ChoiceWeights>);
  using Router = moe::TokenChoice<moe::LinearScorer<double>, moe::SigmoidScore, PerSegment, ChoiceWeights,
                                  moe::Balancing<moe::SelectionBias>>;
  Router router(moe::LinearScorer<double>({.width = kWidth, .outputs = kOutputs}), moe::SigmoidScore(),
                PerSegment(), ChoiceWeights(),
                moe::Balancing<moe::SelectionBias>(moe::SelectionBias({.outputs = kOutputs})));
  STATIC_REQUIRE(Router::coupling(false) == Coupling::per_segment);
  test::randomise(router, 3);
  const std::vector<double> bias{0.5, -1, 0, 2, 0.25};
  router.balancing().part<moe::SelectionBias>().set_bias(bias);
  const auto call = test::random_call<double>(20, kWidth, 2);
  const auto routed = test::route(router, call);
  const test::Matrix logits = test::linear(test::parameter(router, "gate.weight"), call);
  Index routes = 0;
  for (Index t = 0; t < 20; ++t) {
    for (const ExpertId id : routed.experts_of(t)) {
      const auto e = static_cast<std::size_t>(id);
      CHECK(id != 0);
      CHECK(test::near(routed.weight_of(t, id),
                       1 / (1 + std::exp(-logits[static_cast<std::size_t>(t)][e])) + bias[e]));
      ++routes;
    }
  }
  CHECK(routes == 16);  // four rows went to output 0
}

TEST_CASE("a set selection sees logits, scores, biased and masked choice scores, and who takes part",
          "[set_selection]") {
  test::Matrix choice, logit, score;
  std::vector<bool> active;
  auto router =
      router_of(Witness{&choice, &logit, &score, &active}, moe::SelectionBias({.outputs = kOutputs}));
  test::randomise(router, 3);
  const std::vector<double> bias{0.5, -1, 0, 2, 0.25};
  router.balancing().part<moe::SelectionBias>().set_bias(bias);
  auto call = test::random_call<double>(6, kWidth, 2);
  call.mask = {0, 0, -kInfinity, 0, 0.5};
  call.valid.assign(6, true);
  call.valid[4] = false;
  call.options.temperature = 2;
  const auto routed = test::route(router, call);
  CHECK(active == std::vector<bool>{true, true, true, true, false, true});
  const test::Matrix plain = test::linear(test::parameter(router, "gate.weight"), call);
  for (std::size_t t = 0; t < 6; ++t) {
    if (t == 4) continue;
    for (std::size_t e = 0; e < kOutputs; ++e) {
      INFO("token " << t << ", output " << e);
      if (e == 2) {
        CHECK(logit[t][e] == -kInfinity);
        CHECK(choice[t][e] == -kInfinity);
        continue;
      }
      const double l = (plain[t][e] + call.mask[e]) / 2, sigmoid = 1 / (1 + std::exp(-l));
      CHECK(test::near(logit[t][e], l));
      CHECK(test::near(score[t][e], sigmoid));
      CHECK(choice[t][e] == score[t][e] + bias[e]);
    }
    CHECK(routed.weights_of(static_cast<Index>(t)) == std::vector<double>{score[t][0]});  // without the bias
  }
}
