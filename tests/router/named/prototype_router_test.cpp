#include "moe/router/named/prototype_router.hpp"

#include <cmath>

#include "moe/router/balance/prototype_contrast.hpp"
#include "moe/router/scorer/task_mask.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::Index;

// Tasks of the sweeps' calls are 0 to 3.
auto four_sets() {
  using Scorer = moe::MaskedScorer<moe::CosineScorer<double>, moe::TaskMask>;
  const Index sets[] = {3, 1, 2, 2};
  return moe::TokenChoice<Scorer, moe::SigmoidScore, moe::TopKSelection, moe::GatherWeighting,
                          moe::Balancing<moe::LoadBalance>>(
      Scorer(moe::CosineScorer<double>({.width = 4, .projected = 0, .outputs = 8}), moe::TaskMask(sets)),
      moe::SigmoidScore{}, moe::TopKSelection(2), moe::GatherWeighting{},
      moe::Balancing<moe::LoadBalance>(moe::LoadBalance({.coefficient = 0.5})));
}

// A call's mask and the tasks' sets may leave a row nothing. The contrast moves prototypes only: its gradient
// is below.
const test::RouterCases kCases{
    {"PrototypeRouter, four sets", [] { return four_sets(); }, {.laws = {.masks = false}, .ties = false}},
};

moe::PrototypeRouter<double> router_of(double contrast, Index k = 2) {
  auto router = moe::prototype_router<double>(
      {.width = 4, .experts = 5, .unconditional = 2, .k = k, .contrast = contrast, .contrast_tau = 0.5});
  test::randomise(router, 3);
  return router;
}
test::RouterCall<double> call_of(Index tokens) {
  auto call = test::random_call<double>(tokens, 4, 5);
  call.training = true;
  for (std::int32_t& task : call.columns.ints["task"]) task %= 2;
  return call;
}

}  // namespace

TEST_CASE("tokens without a condition go to their own experts, and no others do", "[prototype_router]") {
  const auto router = router_of(0);
  const auto call = call_of(40);
  const auto routed = test::route(router, call);
  for (Index t = 0; t < 40; ++t) {
    const bool conditional = call.columns.ints.at("task")[static_cast<std::size_t>(t)] == 0;
    for (const moe::ExpertId e : routed.experts_of(t)) CHECK((e < 5) == conditional);
    CHECK(routed.experts_of(t).size() == 2);
  }
  CHECK(test::route(router_of(0, 3), call).pairs() < 120);  // two experts for three choices
}

TEST_CASE("the contrast is smallest where every prototype points to the mean of its tokens",
          "[prototype_router]") {
  auto router = moe::prototype_router<double>(
      {.width = 3, .experts = 3, .unconditional = 1, .contrast = 1, .contrast_tau = 0.5});
  auto call = test::call_of({{2, 0, 0}, {1, 0.2, 0}, {1, -0.2, 0}, {0, 3, 0}, {0, 0, 0.5}});
  call.columns.ints["task"].assign(5, 0);
  call.training = true;
  test::set_parameter(router, "temperature", {{2}});
  const auto loss_at = [&](const test::Matrix& prototypes) {
    test::set_parameter(router, "sim_matrix", prototypes);
    return test::loss_of(test::route(router, call), "prototype_contrast");
  };
  const double aligned = loss_at({{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}});
  CHECK(test::near(aligned, -std::log(std::exp(2) / (std::exp(2) + 2))));
  CHECK(loss_at({{1, 0.1, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}}) > aligned);
  CHECK(loss_at({{1, 0, 0, 0}, {0.1, 1, 0, 0}, {0, 0.1, 1, 0}}) > aligned);
  // Nobody goes to the last one: it has no term of its own.
  call.x[12] = call.x[13] = 1, call.x[14] = 0;
  CHECK(std::isfinite(loss_at({{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}})));
}

TEST_CASE("the contrast's gradient to the prototypes, in plain loops and by differences",
          "[prototype_router]") {
  auto router = router_of(0.7);
  auto call = call_of(12);
  call.valid.assign(12, true);
  call.valid[3] = false;
  moe::PrototypeRouter<double>::Tape tape;
  test::OwnedTable<double> table(router, call.shape());
  const auto routed = test::route_train(router, call, table, tape);
  auto gradients = router.make_gradients();
  const std::vector<double> zeros(static_cast<std::size_t>(routed.pairs()), 0);
  for (const double g : test::backward(router, call, table, tape, zeros, 2, &gradients)) CHECK(g == 0);
  // The routes are kept: the prototypes only move in the loss.
  const auto loss = [&] {
    const test::Matrix p = test::parameter(router, "sim_matrix");
    const auto cosine = [&](const test::Vector& m, std::size_t e) {
      double product = 0, mm = 0, pp = 0;
      for (std::size_t j = 0; j < 4; ++j)
        product += m[j] * p[j][e], mm += m[j] * m[j], pp += p[j][e] * p[j][e];
      return product / std::sqrt(mm * pp);
    };
    double sum = 0, used = 0;
    for (std::size_t e = 0; e < 5; ++e) {
      test::Vector mean(4, 0);
      bool any = false;
      for (Index t = 0; t < 12; ++t) {
        for (const moe::ExpertId id : routed.experts_of(t)) {
          if (static_cast<std::size_t>(id) != e) continue;
          any = true;
          for (std::size_t j = 0; j < 4; ++j) mean[j] += call.row(t)[j];
        }
      }
      if (!any) continue;
      test::Vector logit;
      for (std::size_t j = 0; j < 5; ++j) logit.push_back(cosine(mean, j) / 0.5);
      sum -= std::log(test::softmax(logit)[e]);
      used += 1;
    }
    return 0.7 * sum / used;
  };
  CHECK(test::near(test::loss_of(routed, "prototype_contrast"), loss()));
  for (const auto& element : test::elements(router, gradients)) {
    const double start = *element.value;
    const auto at = [&](double shift) {
      *element.value = start + shift;
      const double value = loss();
      *element.value = start;
      return 2 * value;
    };
    const auto difference = [&](double h) {
      return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    };
    const double coarse = difference(1e-3), fine = difference(5e-4);
    INFO(element.name << ": " << *element.gradient << ", expected " << fine);
    CHECK(std::abs(*element.gradient - fine) <= std::abs(coarse - fine) + 1e-11);
  }
}

TEST_CASE("prototype routers and task masks refuse what does not fit", "[prototype_router]") {
  CHECK_THROWS_AS(moe::prototype_router<double>({.width = 4, .experts = 0}), moe::config_error);
  CHECK_THROWS_AS(moe::prototype_router<double>({.width = 4, .experts = 3, .unconditional = 0}),
                  moe::config_error);
  CHECK_THROWS_WITH(moe::prototype_router<double>({.width = 4, .experts = 3, .k = 4}),
                    "moe: experts per token: expected a value in [1, 3], got 4");
  CHECK_THROWS_AS(moe::PrototypeContrast({.tau = 0}), moe::config_error);
  CHECK_THROWS_AS(moe::PrototypeContrast({.width = 0}), moe::config_error);
  CHECK_THROWS_AS(moe::PrototypeContrast({.leading = 5}).check(4), moe::config_error);
  const Index none[] = {2, 0};
  CHECK_THROWS_WITH(moe::TaskMask(none),
                    "moe: experts of a task: expected a value in [1, 2147483647], got 0");
  CHECK_THROWS_AS(moe::TaskMask({}), moe::config_error);
  const Index two[] = {2, 1};
  CHECK_THROWS_WITH(moe::TaskMask(two).check(4), "moe: task mask: expected 4 experts, got 3");
  auto call = call_of(3);
  call.columns.ints["task"][1] = 2;
  CHECK_THROWS_WITH(test::route(router_of(0), call),
                    "moe: task: expected numbers in [0, 2), got 2 for token 1");
  call.columns.ints.erase("task");
  CHECK_THROWS_WITH(test::route(router_of(0), call),
                    "moe: task: expected 3 tasks, one for each row, got none");
}
