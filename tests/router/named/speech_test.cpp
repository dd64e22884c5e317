#include "moe/router/named/speech.hpp"

#include <cmath>

#include "moe/router/balance/mean_importance.hpp"
#include "moe/router/balance/sparsity_l1.hpp"
#include "support/balance_case.hpp"
#include "support/plain_routing.hpp"
#include "support/router_cases.hpp"

namespace {

using moe::Index;
using moe::MeanImportance;
using moe::SparsityL1;
using test::BalanceCase;
using test::near;

const test::RouterCases kCases{
    {"SpeechRouter",
     [] {
       return moe::speech_router<double>({.width = 4, .experts = 5, .sparsity = 0.3, .importance = 0.6});
     }},
};

}  // namespace

TEST_CASE("SpeechMoE's losses at their ends: one-hot and uniform", "[speech]") {
  BalanceCase c(4, 4, 1);
  for (Index t = 0; t < 4; ++t) c.p(t, 2) = 1;
  CHECK(near(c.loss(SparsityL1({.coefficient = 0.5})), 0.5));
  CHECK(near(c.loss(MeanImportance({.coefficient = 0.5})), 0.5 * 4));
  for (Index t = 0; t < 4; ++t) c.p(t, 2) = 0, c.p(t, t) = 1;  // sure of one each, uniform together
  CHECK(near(c.loss(SparsityL1({.coefficient = 0.5})), 0.5));
  CHECK(near(c.loss(MeanImportance({.coefficient = 0.5})), 0.5));
  c.probability.assign(16, 0.25);
  CHECK(near(c.loss(SparsityL1({.coefficient = 0.5})), 0.5 * 2));  // sqrt 4
  CHECK(near(c.loss(MeanImportance({.coefficient = 0.5})), 0.5));
  for (const double g : c.gradients(SparsityL1({.coefficient = 0.5})).probability) CHECK(near(g, 0));
  CHECK(c.loss(MeanImportance({.coefficient = 1})) <
        test::random_balance_case(4, 4, 1, 3).loss(MeanImportance({.coefficient = 1})));
}

TEST_CASE("gradients of SpeechMoE's losses match differences", "[speech]") {
  const BalanceCase c = test::random_balance_case(11, 5, 1, 4);
  test::check_array_gradient(SparsityL1({.coefficient = 0.3}), c, -2, &BalanceCase::probability,
                             &BalanceCase::Gradients::probability);
  test::check_array_gradient(MeanImportance({.coefficient = 0.3}), c, -2, &BalanceCase::probability,
                             &BalanceCase::Gradients::probability);
  BalanceCase none(0, 3, 1);
  CHECK((none.loss(SparsityL1()) == 0 && none.loss(MeanImportance()) == 0));
  BalanceCase padded(2, 3, 1);
  padded.active.fill(false);
  CHECK((padded.loss(SparsityL1()) == 0 && padded.loss(MeanImportance()) == 0));
}

TEST_CASE("embeddings that weigh nothing leave the router on the frames", "[speech]") {
  auto with = moe::speech_router<double>({.width = 6, .experts = 5});
  auto frames = moe::speech_router<double>({.width = 4, .experts = 5});
  test::randomise(frames, 3);
  test::Matrix weight = test::parameter(frames, "gate.weight");
  for (auto& row : weight) row.insert(row.end(), 2, 0);
  test::set_parameter(with, "gate.weight", weight);
  auto call = test::random_call<double>(30, 4, 1), longer = test::random_call<double>(30, 6, 1);
  for (Index t = 0; t < 30; ++t) std::copy_n(call.row(t), 4, longer.row(t));
  call.training = longer.training = true;
  CHECK(test::same_route(test::route(with, longer), test::route(frames, call)));
}

TEST_CASE("options of SpeechMoE2's router are checked", "[speech]") {
  CHECK_THROWS_AS(moe::speech_router<double>({.width = 0, .experts = 5}), moe::config_error);
  CHECK_THROWS_AS(SparsityL1({.coefficient = std::nan("")}), moe::config_error);
  CHECK_THROWS_AS(MeanImportance({.coefficient = std::nan("")}), moe::config_error);
}
