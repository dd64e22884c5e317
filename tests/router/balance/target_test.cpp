#include "moe/router/balance/target.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/balance_case.hpp"
#include "support/plain_routing.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::Index;
using moe::TargetForm;
using moe::TargetLoss;
using test::BalanceCase;
using test::near;
using Rows = moe::ConstMatrixView<double>;

constexpr TargetForm kForms[] = {TargetForm::sigmoid, TargetForm::squared, TargetForm::cross_entropy};
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Random logits, some of them masked, with distributions as targets.
struct TargetCase : BalanceCase {
  std::vector<double> target;

  explicit TargetCase(Index rows, Index n = 4) : BalanceCase(test::random_balance_case(rows, n, 1, 5)) {
    target.assign(logit.size(), 0);
    for (Index t = 0; t < rows; ++t) {
      target[size(t * n + t % n)] = 0.75;
      target[size(t * n + (t + 1) % n)] = 0.25;
    }
    call.target = Rows(target.data(), rows, n);
  }
  TargetCase(const TargetCase& other) : BalanceCase(other), target(other.target) {
    call.target = Rows(target.data(), tokens, outputs);
  }
};

/// The loss of a row from the formulas.
double plain(TargetForm form, const std::vector<double>& l, const std::vector<double>& m) {
  const test::Vector w = test::softmax(l);
  double sum = 0;
  for (std::size_t e = 0; e < l.size(); ++e) {
    if (l[e] == -kInfinity) continue;
    const double p = 1 / (1 + std::exp(-l[e]));
    if (form == TargetForm::sigmoid) {
      sum -= (m[e] * std::log(p) + (1 - m[e]) * std::log(1 - p)) / static_cast<double>(l.size());
    }
    if (form == TargetForm::squared) sum += (w[e] - m[e]) * (w[e] - m[e]);
    if (form == TargetForm::cross_entropy) sum -= m[e] * std::log(w[e]);
  }
  return sum;
}

std::string refused(const moe::RouterInput<double>& in, TargetForm form) {
  try {
    TargetLoss({.form = form}).check_call(in);
  } catch (const moe::numeric_error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("DriftMoE: no gradient where the sigmoids are the targets, however many are right", "[target]") {
  TargetCase c(2, 3);
  c.target = {1, 1, 0.2, 0, 0.5, 0};
  c.logit = {800, 800, std::log(0.25), -800, 0, -kInfinity};
  for (const double g : c.gradients(TargetLoss()).logit) CHECK(near(g, 0));
  c.logit = {0, 0, 0, 0, 0, -kInfinity};
  const auto g = c.gradients(TargetLoss({.coefficient = 6}), 2).logit;  // 2 * 6 / (2 rows * 3 outputs)
  const double by_hand[] = {-1, -1, 0.6, 1, 0, 0};
  for (std::size_t i = 0; i < 6; ++i) CHECK(near(g[i], by_hand[i]));
  CHECK(near(c.loss(TargetLoss({.coefficient = 6})), 5 * std::log(2)));
}

TEST_CASE("PMOE: no gradient where the softmax is the one-hot of the best expert", "[target]") {
  for (const TargetForm form : {TargetForm::squared, TargetForm::cross_entropy}) {
    TargetCase c(1, 3);
    c.target = {0, 1, 0};
    c.logit = {0, 800, -kInfinity};
    CHECK(c.loss(TargetLoss({.form = form})) == 0);
    for (const double g : c.gradients(TargetLoss({.form = form})).logit) CHECK(g == 0);
    c.logit = {0, 0, 0};
    const auto g = c.gradients(TargetLoss({.form = form})).logit;
    CHECK((g[0] > 0 && g[1] < 0 && near(g[0], g[2]) && near(g[0] + g[1] + g[2], 0)));
    CHECK(near(c.loss(TargetLoss({.form = form})), form == TargetForm::squared ? 6.0 / 9 : std::log(3)));
  }
}

TEST_CASE("losses by targets against plain loops, gradients against differences", "[target]") {
  for (const TargetForm form : kForms) {
    TargetCase c(11);
    c.logit[5] = c.logit[16] = -kInfinity;
    double sum = 0;
    for (Index t = 0; t < 11; ++t) {
      const auto first = static_cast<std::ptrdiff_t>(4 * t);
      if (c.active[t]) {
        sum += plain(form, {c.logit.begin() + first, c.logit.begin() + first + 4},
                     {c.target.begin() + first, c.target.begin() + first + 4});
      }
    }
    const TargetLoss part({.coefficient = 0.3, .form = form});
    CHECK(near(c.loss(part), 0.3 * sum / static_cast<double>(c.active_tokens())));
    TargetCase open(11);
    test::check_array_gradient(part, open, -2, &BalanceCase::logit, &BalanceCase::Gradients::logit);
    const auto g = c.gradients(part).logit;
    CHECK((g[5] == 0 && g[16] == 0));
  }
  const TargetCase none(0);
  CHECK(none.loss(TargetLoss()) == 0);
  TargetCase padded(2);
  padded.active.fill(false);
  CHECK(padded.loss(TargetLoss()) == 0);
}

TEST_CASE("targets that come late give the loss and gradient of the column, of the labelled rows",
          "[target]") {
  for (const TargetForm form : kForms) {
    TargetCase c(7);
    const moe::TargetLossOptions options{.coefficient = 0.3, .form = form};
    std::vector<double> dlogit(28, 9);
    const moe::MatrixView<double> d(dlogit.data(), 7, 4);
    for (Index i = 8; i < 12; ++i) c.target[static_cast<std::size_t>(i)] = -1;  // row 2 is not active
    const double loss =
        moe::late_target_loss(options, Rows(c.logit.data(), 7, 4), c.call.target, d, {c.active.data(), 7});
    CHECK(loss == c.loss(TargetLoss(options)));
    CHECK(test::same_bits(dlogit, c.gradients(TargetLoss(options)).logit));
    CHECK_THROWS_AS(moe::late_target_loss(options, Rows(c.logit.data(), 7, 4), c.call.target, d),
                    moe::numeric_error);
  }
  std::vector<double> logit(8, 0), dlogit(8, 3);
  const std::vector<double> target(8, 0.25);
  const moe::MatrixView<double> d(dlogit.data(), 2, 4);
  const Rows m(target.data(), 2, 4);
  const auto late = [&](const Rows& l, const Rows& targets, const moe::MatrixView<double>& to) {
    return moe::late_target_loss({.form = TargetForm::squared}, l, targets, to);
  };
  CHECK_THROWS_AS(late(Rows(logit.data(), 2, 3), m, d), moe::shape_error);
  CHECK_THROWS_AS(late(Rows(logit.data(), 2, 4), m, moe::MatrixView<double>(dlogit.data(), 1, 4)),
                  moe::shape_error);
  CHECK_THROWS_AS(late(d, m, d), moe::shape_error);
  logit[5] = kInfinity;
  CHECK_THROWS_AS(late(Rows(logit.data(), 2, 4), m, d), moe::numeric_error);
  std::fill(logit.begin() + 4, logit.end(), -kInfinity);
  CHECK_THROWS_AS(late(Rows(logit.data(), 2, 4), m, d), moe::numeric_error);
  const std::vector<bool> one{true};
  CHECK_THROWS_AS(moe::late_target_loss({}, Rows(logit.data(), 2, 4), m, d, one), moe::shape_error);
  CHECK_THROWS_AS(moe::late_target_loss({.coefficient = kInfinity}, m, m, d), moe::config_error);
  CHECK(dlogit == std::vector<double>(8, 3));
}

TEST_CASE("targets that are none are refused", "[target]") {
  TargetCase c(4);
  c.call.training = true;
  for (const TargetForm form : kForms) CHECK(refused(c.call, form).empty());
  c.target[6] = 1.5;
  CHECK(refused(c.call, TargetForm::sigmoid) ==
        "moe: target: expected values in [0, 1], got 1.5 for token 1, expert 2");
  for (const double bad : {-0.1, kInfinity, std::nan("")}) {
    c.target[6] = bad;
    CHECK(!refused(c.call, TargetForm::sigmoid).empty());
  }
  c.target[6] = 0.5;
  CHECK(refused(c.call, TargetForm::sigmoid).empty());
  CHECK(refused(c.call, TargetForm::squared) ==
        "moe: target: expected rows that sum to 1, got 1.25 for token 1");
  CHECK(!refused(c.call, TargetForm::cross_entropy).empty());
  c.call.training = false;
  CHECK(refused(c.call, TargetForm::squared).empty());  // inference has no loss
  c.call.training = true;
  const bool valid[] = {true, false, true, true};
  c.call.valid = valid;
  CHECK(refused(c.call, TargetForm::squared).empty());

  using Router = moe::TokenChoice<moe::LinearScorer<double>, moe::Softmax, moe::TopKSelection,
                                  moe::GatherWeighting, moe::Balancing<TargetLoss>>;
  const Router router(moe::LinearScorer<double>({.width = 2, .outputs = 4}), {}, moe::TopKSelection(1), {},
                      moe::Balancing<TargetLoss>(TargetLoss()));
  auto call = test::random_call<double>(3, 2, 1);
  call.training = true;
  CHECK_THROWS_WITH(test::route(router, call), "moe: target: expected targets for the loss target, got none");
  test::add_targets(call, 5);
  CHECK_THROWS_WITH(test::route(router, call), "moe: target: expected 4 columns, got 5");
  CHECK_THROWS_AS(TargetLoss({.coefficient = kInfinity}), moe::config_error);
}
