#include "moe/train/value_baseline.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "moe/train/concept.hpp"
#include "moe/train/sgd.hpp"
#include "moe/train/trained_layer.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

using moe::Index;
using Head = moe::ValueBaseline<double>;
using View = moe::ConstMatrixView<double>;

namespace {

struct Case {
  Head head{{.width = 3, .coefficient = 0.7}};
  std::vector<double> x, cost{2, -1, 0.5, 4}, advantage = std::vector<double>(4, 77);
  std::vector<bool> valid{true, true, false, true};
  Case() {
    for (int i = 0; i < 12; ++i) x.push_back(std::sin(3 * i + 1));
    double next = 0.3;
    head.visit_storage(static_cast<Head::Gradients*>(nullptr), [&](const char*, double* w, double*, Index n) {
      for (Index i = 0; i < n; ++i) w[i] = next, next -= 0.25;
    });
  }
  View rows() const { return {x.data(), 4, 3}; }
  double loss() { return head.advantages(rows(), cost, valid, advantage.data()); }
};

}  // namespace

TEST_CASE("advantages are costs less the head's values, its loss half their mean square", "[train][smoke]") {
  Case c;
  const double loss = c.loss();
  double sum = 0;
  for (Index t = 0; t < 4; ++t) {
    const double* const x = c.x.data() + 3 * t;
    const double value = 0.3 * x[0] + 0.05 * x[1] - 0.2 * x[2] - 0.45;
    const double want = t == 2 ? 0 : c.cost[static_cast<std::size_t>(t)] - value;
    CHECK(std::abs(c.advantage[static_cast<std::size_t>(t)] - want) < 1e-14);
    sum += want * want;
  }
  CHECK(std::abs(loss - 0.7 / 3 / 2 * sum) < 1e-14);
  c.valid.clear();  // all take part
  CHECK(c.loss() != loss);
  CHECK(c.advantage[2] != 0);
}

TEST_CASE("the head's gradients against central differences, of a quadratic exact", "[train]") {
  Case c;
  c.loss();
  Head::Gradients gradients = c.head.make_gradients();
  c.head.backward(c.rows(), c.advantage, c.valid, 2, gradients);
  int checked = 0;
  c.head.visit_storage(gradients, [&](const char*, double* w, double* g, Index n) {
    for (Index i = 0; i < n; ++i, ++checked) {
      const double start = w[i];
      w[i] = start + 0.5;
      const double above = c.loss();
      w[i] = start - 0.5;
      const double below = c.loss();
      w[i] = start;
      CHECK(std::abs(g[i] - 2 * (above - below)) < 1e-13);
    }
  });
  CHECK(checked == 4);
}

TEST_CASE("an optimiser moves the head until it knows what rows cost", "[train]") {
  Case c;
  c.cost = {};
  for (Index t = 0; t < 4; ++t) c.cost.push_back(2 * c.x[static_cast<std::size_t>(3 * t)] - 1);
  Head::Gradients gradients = c.head.make_gradients();
  moe::TrainedLayer model(c.head, gradients, "baseline");
  STATIC_REQUIRE(moe::TrainedModel<decltype(model)>);
  moe::Sgd<double> sgd;
  const double before = c.loss();
  for (int step = 0; step < 400; ++step) {
    c.loss();
    c.head.backward(c.rows(), c.advantage, c.valid, 1, gradients);
    sgd.step(model, 0.5);
  }
  CHECK(c.loss() < 1e-3 * before);
}

TEST_CASE("what a head gets is checked", "[train]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(Head({.width = 0}), moe::config_error);
  CHECK_THROWS_AS(Head({.width = 1, .coefficient = nan}), moe::config_error);
  Case c;
  c.cost[2] = nan;  // takes no part
  CHECK_NOTHROW(c.loss());
  c.cost[1] = nan;
  c.advantage.assign(4, 77);
  CHECK(test::message_of<moe::numeric_error>([&] { c.loss(); }) ==
        "moe: cost: expected finite values, got nan for row 1");
  c.cost.pop_back();
  CHECK(test::message_of<moe::shape_error>([&] { c.loss(); }) == "moe: cost: expected 4 entries, got 3");
  CHECK(c.advantage == std::vector<double>(4, 77));
  Head::Gradients gradients = c.head.make_gradients();
  CHECK_THROWS_AS(c.head.backward(c.rows(), c.advantage, c.valid, nan, gradients), moe::config_error);
  CHECK_THROWS_AS(c.head.backward(View(c.x.data(), 6, 2), c.advantage, c.valid, 1, gradients),
                  moe::shape_error);
  Head::Gradients other = Head({.width = 2}).make_gradients();
  CHECK_THROWS_AS(c.head.backward(c.rows(), c.advantage, c.valid, 1, other), moe::shape_error);
  CHECK(Head({.width = 3}).advantages(View(nullptr, 0, 3), {}, {}, nullptr) == 0);  // no rows
}
