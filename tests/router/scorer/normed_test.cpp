#include "moe/router/scorer/normed.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::Index;
using Scorer = moe::NormedScorer<moe::LinearScorer<double>>;
template <class S>
using Router = moe::TokenChoice<S, moe::Softmax, moe::TopKSelection, moe::GatherWeighting>;

template <class S>
Router<S> make(S scorer) {
  Router<S> router(std::move(scorer), moe::Softmax{}, moe::TopKSelection(3), moe::GatherWeighting{});
  test::randomise(router, 3);
  return router;
}
moe::LinearScorer<double> linear() {
  return moe::LinearScorer<double>({.width = 5, .outputs = 7});
}

}  // namespace

TEST_CASE("rows are divided by their root mean square, scaled by column and factor", "[normed_scorer]") {
  // W = identity shows what was read.
  Scorer scorer(moe::LinearScorer<double>({.width = 4, .outputs = 4}), {.eps = 0.5, .factor = 0.25});
  const std::vector<double> scale{1, -2, 0.5, 3};
  auto set = [&](const moe::Parameter<double>& p) {
    if (std::string(p.name) == "norm.scale") {
      for (Index j = 0; j < 4; ++j) p.value(j, 0) = scale[static_cast<std::size_t>(j)];
    } else {
      for (Index j = 0; j < 4; ++j) p.value(j, j) = 1;
    }
  };
  scorer.visit_parameters(nullptr, set);
  auto call = test::random_call<double>(3, 4, 1);
  std::vector<double> out(12);
  moe::Logits<double> logits;
  logits.value = moe::MatrixView<double>(out.data(), 3, 4);
  test::MeasuredMemory memory([&](moe::Arena& a) { scorer.measure(a, 3, 1); });
  moe::Arena arena = memory.arena();
  moe::SerialExecutor serial;
  scorer.logits(call.input(), logits, nullptr, arena, serial);
  for (Index t = 0; t < 3; ++t) {
    double squares = 0;
    for (Index j = 0; j < 4; ++j) squares += call.row(t)[j] * call.row(t)[j];
    for (Index j = 0; j < 4; ++j) {
      const double want =
          call.row(t)[j] / std::sqrt(squares / 4 + 0.5) * 0.25 * scale[static_cast<std::size_t>(j)];
      CHECK(std::abs(out[static_cast<std::size_t>(4 * t + j)] - want) <= 16 * 0x1p-52 * std::abs(want));
    }
  }
}

TEST_CASE("normed rows obey the laws of routers and match central differences", "[normed_scorer]") {
  auto router = make(Scorer(linear(), {.eps = 1e-6, .factor = 0.5}));
  test::check_router_laws(router);
  test::check_router_gradients(router, 5);
}

TEST_CASE("a norm that is off leaves the inner scorer's bits", "[normed_scorer]") {
  auto with = make(Scorer(linear(), {.enabled = false}));
  auto without = make(linear());
  const auto call = test::random_call<double>(9, 5, 2);
  CHECK(test::same_route(test::route(with, call), test::route(without, call)));
  test::check_router_laws(with);
  test::check_router_gradients(with, 4);
}

TEST_CASE("norms refuse numbers that are of no use", "[normed_scorer]") {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double bad : {-1.0, std::nan(""), infinity}) {
    CHECK_THROWS_AS(Scorer(linear(), {.eps = bad}), moe::config_error);
  }
  for (const double bad : {std::nan(""), infinity}) {
    CHECK_THROWS_AS(Scorer(linear(), {.factor = bad}), moe::config_error);
  }
}
