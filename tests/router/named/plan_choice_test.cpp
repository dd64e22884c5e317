#include "moe/router/named/plan_choice.hpp"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/layer/soft/soft_layer.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "moe/router/named/expert_choice.hpp"
#include "moe/router/named/sinkhorn_router.hpp"
#include "moe/router/named/v_moe.hpp"
#include "moe/router/soft/hard_mix.hpp"
#include "support/any_router.hpp"
#include "support/mixing.hpp"
#include "support/router_cases.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::ColumnPlanKind;
using moe::Index;
using Bank = moe::Glu<moe::Silu, double>;

moe::PlanChoice<double> make(ColumnPlanKind kind, double tolerance = 1e-4) {
  auto router = moe::sinkhorn_expert_choice<double>({.width = 4, .experts = 3, .capacity_factor = 1.5});
  router.selection() =
      moe::ColumnPlan({.kind = kind, .capacity_factor = 1.5, .regularisation = 0.7, .tolerance = tolerance});
  test::randomise(router, 3, 2);
  return router;
}

// A tolerance that is met at once leaves the potentials 0: then the gradients are derivatives.
const test::RouterCases kCases{
    {"PlanChoice, softmax",
     [] { return make(ColumnPlanKind::entropic, 1e9); },
     {.ties = false, .losses = false, .segments = true, .tokens = 8}},
    {"PlanChoice, projections",
     [] { return make(ColumnPlanKind::sparse, 1e9); },
     {.ties = false, .losses = false, .segments = true, .tokens = 8}},
    {"PlanChoice, entropic",
     [] { return make(ColumnPlanKind::entropic); },
     {.ties = false, .losses = false, .estimator = true, .segments = true}},
    {"PlanChoice, sparse",
     [] { return make(ColumnPlanKind::sparse); },
     {.ties = false, .losses = false, .estimator = true, .segments = true}},
};

using Matrix = std::vector<std::vector<double>>;  // [row][output]

/// Sinkhorn's plan of e^z with row sums 1 and equal column sums, by scaling rows and columns in turn.
Matrix plain_entropic(const Matrix& z) {
  Matrix p = z;
  for (auto& row : p) {
    for (double& v : row) v = std::exp(v);
  }
  for (int i = 0; i < 3000; ++i) {
    for (std::size_t e = 0; e < p[0].size(); ++e) {
      double sum = 0;
      for (auto& row : p) sum += row[e];
      for (auto& row : p) row[e] *= static_cast<double>(p.size()) / static_cast<double>(p[0].size()) / sum;
    }
    for (auto& row : p) {
      double sum = 0;
      for (const double v : row) sum += v;
      for (double& v : row) v /= sum;
    }
  }
  return p;
}

/// The sparse plan after `steps` steps on the rows' potentials; levels by bisection.
Matrix plain_sparse(const Matrix& z, std::size_t places, int steps) {
  const std::size_t rows = z.size(), n = z[0].size();
  std::vector<double> potential(rows);
  Matrix p(rows, std::vector<double>(n));
  for (int i = 0;; ++i) {
    for (std::size_t e = 0; e < n; ++e) {
      std::vector<double> v(rows), sorted;
      for (std::size_t r = 0; r < rows; ++r) v[r] = z[r][e] + potential[r];
      sorted = v;
      std::sort(sorted.rbegin(), sorted.rend());
      const double least = sorted[places - 1], share = static_cast<double>(rows) / static_cast<double>(n);
      double low = sorted[0] - share - 1, high = sorted[0];
      for (int j = 0; j < 200; ++j) {
        const double level = (low + high) / 2;
        double sum = 0;
        for (const double x : v) sum += x >= least ? std::max(0.0, x - level) : 0.0;
        (sum > share ? low : high) = level;
      }
      for (std::size_t r = 0; r < rows; ++r) p[r][e] = v[r] >= least ? std::max(0.0, v[r] - low) : 0.0;
    }
    if (i == steps) return p;
    for (std::size_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (const double v : p[r]) sum += v;
      potential[r] -= (sum - 1) / static_cast<double>(n);
    }
  }
}

/// What the router gives of each segment [first, last), against the plain plan of its logits.
void check_plan(moe::PlanChoice<double>& router, const Matrix& weight, const test::RouterCall<double>& call,
                bool sparse, std::size_t first, std::size_t last, int steps) {
  auto gradients = router.make_gradients();
  const auto w = test::elements(router, gradients);
  Matrix z;
  for (std::size_t t = first; t < last; ++t) {
    z.emplace_back();
    for (std::size_t e = 0; e < 3; ++e) {
      double logit = 0;
      for (std::size_t j = 0; j < 4; ++j) logit += *w[e * 4 + j].value * call.x[t * 4 + j];
      z.back().push_back(logit / 0.7);
    }
  }
  const std::size_t places = std::max<std::size_t>(1, (last - first) / 2);  // factor 1.5 of 3 experts
  const Matrix p = sparse ? plain_sparse(z, places, steps) : plain_entropic(z);
  for (std::size_t e = 0; e < 3; ++e) {
    std::vector<double> column;
    for (const auto& row : p) column.push_back(row[e]);
    std::sort(column.rbegin(), column.rend());
    for (std::size_t t = first; t < last; ++t) {
      const double own = p[t - first][e];
      const double expected = own >= column[places - 1] ? own : 0;
      CHECK(std::abs(weight[t][e] - expected) < 1e-6);
    }
  }
}

}  // namespace

TEST_CASE("experts take the top of their column of the plan, and its entries are the weights", "[router]") {
  const auto kind = GENERATE(ColumnPlanKind::entropic, ColumnPlanKind::sparse);
  const bool sparse = kind == ColumnPlanKind::sparse;
  auto router = make(kind);
  router.selection() = moe::ColumnPlan({.kind = kind,
                                        .capacity_factor = 1.5,
                                        .regularisation = 0.7,
                                        .tolerance = sparse ? 0 : 1e-12,
                                        .iterations = sparse ? 20 : 3000});
  auto call = test::random_call<double>(11, 4, 3);
  call.segments = {0, 4, 11};
  const auto routed = test::route(router, call);
  Matrix weight(11, std::vector<double>(3));
  for (std::size_t t = 0; t < 11; ++t) {
    for (Index p = routed.offsets[t]; p < routed.offsets[t + 1]; ++p) {
      const auto i = static_cast<std::size_t>(p);
      weight[t][static_cast<std::size_t>(routed.expert[i])] = routed.weight[i];
    }
  }
  check_plan(router, weight, call, sparse, 0, 4, 20);
  check_plan(router, weight, call, sparse, 4, 11, 20);
}

namespace {

Bank make_bank() {
  Bank bank({.experts = 3, .width = 4, .hidden = 5});
  bank.initialise(3);
  return bank;
}

// One type of layer for all of them.
using Routers = test::AnyRouter<moe::VMoeRouter<double>, moe::SinkhornRouter<double>,
                                moe::ExpertChoice<double>, moe::PlanChoice<double>>;

template <class C>
void check_layers(const Routers& router, const C& capacity) {
  const std::vector<Index> ends{0, 5, 12};
  const moe::MoeLayer<Routers, Bank, C> sparse(router, make_bank(), capacity);
  const moe::SoftLayer dense(moe::HardMix<Routers, C>(router, capacity), make_bank());
  const auto a = test::run_layer(sparse, 12, ends), b = test::run_layer(dense, 12, ends);
  test::check_close(a.y, b.y);
  test::check_close(a.dx, b.dx);
  test::check_close(a.gradients, b.gradients);
  const std::vector<double> x = test::normal_rows(12, 4, 9);
  test::check_close(test::forward_rows(sparse, x, ends), test::forward_rows(dense, x, ends));
}
template <class R, class C = moe::Dropless>
void check_dense(R router, C capacity = {}) {
  test::randomise(router, 5, 1);
  check_layers(Routers(std::move(router)), capacity);
}

}  // namespace

// The sixth, Soft MoE, is dense: tests/layer/soft/soft_layer_test.cpp has it from the formula.
TEST_CASE("the routers of vision layers as dispatch and combine matrices equal the sparse path", "[router]") {
  const moe::FixedCapacity places({.factor = 1});
  check_dense(moe::v_moe_router<double>({.width = 4, .experts = 3}), places);
  check_dense(
      moe::sinkhorn_router<double>({.width = 4, .experts = 3, .weights = moe::PlanWeights::plan_unrolled}),
      places);
  check_dense(moe::expert_choice<double>({.width = 4, .experts = 3, .capacity_factor = 1}));
  check_dense(moe::sinkhorn_expert_choice<double>({.width = 4, .experts = 3, .capacity_factor = 1}));
  check_dense(moe::sparse_expert_choice<double>({.width = 4, .experts = 3, .capacity_factor = 1}));
}

TEST_CASE("plans of expert choice refuse options out of their range", "[router]") {
  using Options = moe::ColumnPlan::Options;
  const auto refused = [](Options options) {
    CHECK_THROWS_AS(moe::ColumnPlan(options).check(3), moe::config_error);
  };
  refused({.capacity_factor = 4});
  refused({.capacity_factor = 0});
  refused({.regularisation = 0});
  refused({.regularisation = std::nan("")});
  refused({.tolerance = -1});
  refused({.tolerance = INFINITY});
  refused({.iterations = 0});
}
