#include "moe/router/kind/token_choice.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "moe/executor/pool.hpp"
#include "moe/router/balance/load_balance.hpp"
#include "moe/router/balance/z.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/concept.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/router_cases.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::ExpertId;
using moe::Index;
using test::route;
using test::RouterCall;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// Gathers scores; the last output is a null expert, which is chosen like any other and routed nowhere.
class LastIsNull {
 public:
  Index experts(Index outputs) const { return outputs - 1; }
  template <class Real>
  void forward(const moe::RowContext<Real>& row, const moe::Chosen& chosen, Real* weight,
               bool* keep) const noexcept {
    for (Index i = 0; i < chosen.count; ++i) {
      weight[i] = row.score[chosen.id[i]];
      keep[i] = chosen.id[i] != null_id_;
    }
  }
  template <class Real>
  void backward(const moe::RowContext<Real>&, const moe::Chosen& chosen, const Real* dweight,
                Real* dscore) const noexcept {
    for (Index i = 0; i < chosen.count; ++i) dscore[chosen.id[i]] += dweight[i];
  }
  explicit LastIsNull(ExpertId null_id) : null_id_(null_id) {}

 private:
  ExpertId null_id_;
};

/// Weighs the first choice and leaves the others out, as a second expert that a coin drops.
class FirstAlone {
 public:
  template <class Real>
  void forward(const moe::RowContext<Real>&, const moe::Chosen& chosen, Real* weight,
               bool* keep) const noexcept {
    for (Index i = 0; i < chosen.count; ++i) {
      weight[i] = 1;
      keep[i] = i == 0;
    }
  }
  template <class Real>
  void backward(const moe::RowContext<Real>&, const moe::Chosen&, const Real*, Real*) const noexcept {}
};

/// The harness copies executors; pools cannot be.
template <class X>
struct Borrowed {
  X& executor;
  Index concurrency() const { return executor.concurrency(); }
  template <class F>
  void parallel_for(Index n, F&& f) {
    executor.parallel_for(n, f);
  }
};
template <class X>
Borrowed(X&) -> Borrowed<X>;

using Balance = moe::Balancing<moe::LoadBalance, moe::ZLoss>;
template <class Weighting = moe::GatherWeighting>
using Router =
    moe::TokenChoice<moe::LinearScorer<double>, moe::Softmax, moe::TopKSelection, Weighting, Balance>;

Balance losses() {
  return Balance(moe::LoadBalance({.coefficient = 0.1}), moe::ZLoss(0.01));
}

Router<> make_router(Index width, Index experts, Index k, bool bias = false) {
  Router<> router(moe::LinearScorer<double>({.width = width, .outputs = experts, .bias = bias}),
                  moe::Softmax{}, moe::TopKSelection(k), moe::GatherWeighting{}, losses());
  test::randomise(router, 12);
  return router;
}

/// Logits [T, N] of a router, in plain loops.
template <class R>
std::vector<std::vector<double>> naive_logits(R& router, const RouterCall<double>& call, bool bias) {
  auto gradients = router.make_gradients();
  const auto all = test::elements(router, gradients);  // W row by row, then b
  const Index n = router.outputs(), d = call.width;
  std::vector<std::vector<double>> logits;
  for (Index t = 0; t < call.tokens; ++t) {
    logits.emplace_back();
    for (Index e = 0; e < n; ++e) {
      double sum = bias ? *all[static_cast<std::size_t>(n * d + e)].value : 0;
      for (Index j = 0; j < d; ++j) {
        sum += *all[static_cast<std::size_t>(e * d + j)].value * call.x[static_cast<std::size_t>(t * d + j)];
      }
      if (!call.mask.empty()) sum += call.mask[static_cast<std::size_t>((call.mask_per_row ? t : 0) * n + e)];
      logits.back().push_back(sum);
    }
  }
  return logits;
}

/// softmax over all, the k best, as they are.
void check_against_naive(const test::Routed<double>& routed, const std::vector<std::vector<double>>& logits,
                         Index k) {
  for (std::size_t t = 0; t < logits.size(); ++t) {
    std::vector<double> p;
    double sum = 0;
    for (const double l : logits[t]) {
      p.push_back(std::exp(l));
      sum += p.back();
    }
    std::vector<ExpertId> expected;
    std::vector<double> weights;
    std::vector<bool> taken(p.size(), false);
    for (Index i = 0; i < k; ++i) {
      std::size_t best = p.size();
      for (std::size_t e = 0; e < p.size(); ++e) {
        if (!taken[e] && p[e] > 0 && (best == p.size() || p[e] > p[best])) best = e;
      }
      if (best == p.size()) break;
      taken[best] = true;
      expected.push_back(static_cast<ExpertId>(best));
      weights.push_back(p[best] / sum);
    }
    INFO("token " << t);
    REQUIRE(routed.experts_of(static_cast<Index>(t)) == expected);
    const auto w = routed.weights_of(static_cast<Index>(t));
    for (std::size_t i = 0; i < w.size(); ++i) CHECK(std::abs(w[i] - weights[i]) <= 1e-14);
  }
}

Router<LastIsNull> null_router() {
  return {moe::LinearScorer<double>({.width = 4, .outputs = 4}), moe::Softmax{}, moe::TopKSelection(2),
          LastIsNull(3), losses()};
}

const test::RouterCases kCases{{"TokenChoice, the last output a null expert", null_router}};

}  // namespace

TEST_CASE("a choice that a weighting leaves out is not elided: only null experts are", "[token_choice]") {
  const Router<FirstAlone> router(moe::LinearScorer<double>({.width = 4, .outputs = 4}), moe::Softmax{},
                                  moe::TopKSelection(2), FirstAlone{}, losses());
  const auto routed = route(router, test::random_call<double>(30, 4, 3));
  CHECK(routed.pairs() == 30);
  CHECK(routed.elided == 0);
}

TEST_CASE("token choice matches plain loops: K per call, K = E, bias, masks", "[token_choice]") {
  for (const bool bias : {false, true}) {
    Router<> router = make_router(7, 6, 2, bias);
    auto call = test::random_call<double>(41, 7, 1);
    check_against_naive(route(router, call), naive_logits(router, call, bias), 2);
    for (const Index k : {1, 3, 6}) {
      call.options.experts_per_token = k;
      CHECK(router.max_pairs(call.shape()) == 41 * k);
      check_against_naive(route(router, call), naive_logits(router, call, bias), k);
    }
    call.options = {};
    for (const bool per_row : {false, true}) {
      call.mask_per_row = per_row;
      call.mask.assign(static_cast<std::size_t>(call.mask_rows() * 6), 0);
      for (std::size_t i = 0; i < call.mask.size(); ++i) {
        call.mask[i] = i % 3 == 1 ? -kInfinity : (i % 5 == 0 ? 0.5 : 0);  // masks and steers
        if (per_row && i % 18 > 12) call.mask[i] = -kInfinity;  // one row in three: a single expert is left
      }
      check_against_naive(route(router, call), naive_logits(router, call, bias), 2);
    }
  }
}

TEST_CASE("one mask row and the same row for every token agree bit for bit", "[token_choice]") {
  Router<> router = make_router(5, 6, 3);
  auto call = test::random_call<double>(9, 5, 2);
  call.mask = {0, -kInfinity, 0.25, 0, -1, 0};
  const auto shared = route(router, call);
  const std::vector<double> row = call.mask;
  for (Index t = 1; t < 9; ++t) call.mask.insert(call.mask.end(), row.begin(), row.end());
  call.mask_per_row = true;
  CHECK(test::same_route(shared, route(router, call)));
}

TEST_CASE("losses exist in training only, by name", "[token_choice]") {
  Router<> router = make_router(5, 4, 2);
  auto call = test::random_call<double>(9, 5, 2);
  CHECK(route(router, call).losses.empty());
  call.training = true;
  const auto routed = route(router, call);
  CHECK(routed.loss_names == std::vector<std::string>{"load_balance", "z_loss"});
  CHECK(routed.losses[0] >= 0.1 * 0.5);
  CHECK(routed.losses[1] > 0);
}

TEST_CASE("rows of NaN, +inf and all -inf: thrown or isolated", "[token_choice]") {
  Router<> router = make_router(3, 4, 2);
  auto good = test::random_call<double>(6, 3, 3);
  auto nan = good, inf = good, masked = good;
  nan.row(2)[1] = kNan;
  inf.row(2)[0] = kInfinity;  // +inf or -inf logits, by the signs of W
  masked.mask_per_row = true;
  masked.mask.assign(24, 0);
  for (std::size_t e = 0; e < 4; ++e) masked.mask[8 + e] = -kInfinity;
  CHECK_THROWS_WITH(route(router, nan), Catch::Matchers::Contains("for token 2, expert 0"));
  CHECK_THROWS_WITH(route(router, inf), Catch::Matchers::Contains("got inf for token 2, expert"));
  CHECK_THROWS_WITH(route(router, masked), Catch::Matchers::Contains("all -inf for token 2"));

  router.set_non_finite(moe::NonFinite::isolate_row);
  const auto expected = route(router, good);
  for (const auto& call : {nan, inf, masked}) {
    const auto routed = route(router, call);
    for (Index t = 0; t < 6; ++t) {
      CHECK(routed.spoiled[static_cast<std::size_t>(t)] == (t == 2));
      if (t == 2) {
        CHECK(routed.experts_of(t).empty());
      } else {
        CHECK(test::same_row(expected, t, routed, t));
      }
    }
  }
}

TEST_CASE("null experts are chosen, counted and not routed", "[token_choice]") {
  auto router = null_router();
  test::randomise(router, 5);
  CHECK(router.experts() == 3);
  CHECK(router.outputs() == 4);
  auto call = test::random_call<double>(30, 4, 6);
  const auto routed = route(router, call);
  CHECK(routed.elided > 0);
  CHECK(routed.pairs() + routed.elided == 60);
  for (const ExpertId e : routed.expert) CHECK(e < 3);
  // Counts per real expert say nothing about the choices of null experts.
  call.outside_counts = {1, 2, 3};
  CHECK_THROWS_AS(route(router, call), moe::config_error);
}

TEST_CASE("token choice refuses parts and calls that do not fit", "[token_choice]") {
  CHECK_THROWS_AS(make_router(3, 4, 5), moe::config_error);
  const auto biased = [] {
    return Router<>(moe::LinearScorer<double>({.width = 3, .outputs = 4}), moe::Softmax{},
                    moe::TopKSelection(2), moe::GatherWeighting{},
                    Balance(moe::LoadBalance({}, moe::Buffer<double>(3)), moe::ZLoss(0)));
  };
  CHECK_THROWS_AS(biased(), moe::shape_error);
  Router<> router = make_router(3, 4, 2);
  auto call = test::random_call<double>(2, 3, 1);
  for (const Index k : {5, -1}) {
    call.options.experts_per_token = k;
    CHECK_THROWS_AS(router.max_pairs(call.shape()), moe::config_error);
  }
  call.options = {};
  call.mask.assign(3, 0);
  CHECK_THROWS_WITH(route(router, call), "moe: logit_mask: expected 4 columns, got 3");
}

TEST_CASE("threads change no bit, forward or backward", "[token_choice][threads]") {
  moe::TokenChoice<moe::LinearScorer<float>, moe::Softmax, moe::TopKSelection, moe::GatherWeighting, Balance>
      router(moe::LinearScorer<float>({.width = 33, .outputs = 40, .bias = true, .jitter = 0.1}),
             moe::Softmax{}, moe::TopKSelection(5), moe::GatherWeighting({.normalise = moe::Normalise::sum}),
             losses());
  test::randomise(router, 3);
  auto call = test::random_call<float>(301, 33, 4);
  call.training = true;
  const auto run = [&](auto& executor) {
    typename decltype(router)::Tape tape;
    test::OwnedTable<float> table(router, call.shape());
    const auto routed = test::route_train(router, call, table, tape, Borrowed{executor});
    auto gradients = router.make_gradients();
    std::vector<float> dweight(static_cast<std::size_t>(routed.pairs()));
    for (std::size_t p = 0; p < dweight.size(); ++p) dweight[p] = routed.weight[p] - 0.1f;
    auto all =
        test::backward(router, call, table, tape, dweight, 1, &gradients, true, 0.0f, Borrowed{executor});
    for (const auto& element : test::elements(router, gradients)) all.push_back(*element.gradient);
    return std::pair(routed, all);
  };
  moe::SerialExecutor serial;
  const auto expected = run(serial);
  for (const Index threads : {2, 3, 8}) {
    INFO(threads << " threads");
    moe::PoolExecutor pool(threads);
    for (int repeat = 0; repeat < 3; ++repeat) {
      const auto got = run(pool);
      CHECK(test::same_route(got.first, expected.first));
      CHECK(test::same_bits(got.second, expected.second));
    }
  }
}
