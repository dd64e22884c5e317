#include "moe/router/scorer/linear.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "moe/core/random.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::Index;
using moe::LinearScorer;
using test::BackwardsExecutor;
using test::RouterCall;

template <class Real>
std::vector<Real> logits(const LinearScorer<Real>& scorer, const RouterCall<Real>& call,
                         typename LinearScorer<Real>::Tape* tape = nullptr) {
  std::vector<Real> out(static_cast<std::size_t>(call.tokens * scorer.outputs()));
  moe::Logits<Real> view;
  view.value = moe::MatrixView<Real>(out.data(), call.tokens, scorer.outputs());
  test::MeasuredMemory memory([&](moe::Arena& a) { scorer.measure(a, call.tokens, 3); });
  moe::Arena arena = memory.arena();
  BackwardsExecutor executor;
  scorer.logits(call.input(), view, tape, arena, executor);
  return out;
}

/// W [N, D] and b [N] as they are published.
template <class Real>
struct Weights {
  std::vector<Real> w, b;
};
template <class Real>
Weights<Real> weights(LinearScorer<Real>& scorer) {
  Weights<Real> all;
  auto copy = [&](const moe::Parameter<Real>& p) {
    auto& to = std::string(p.name) == "gate.bias" ? all.b : all.w;
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) to.push_back(p.value(o, i));
    }
  };
  scorer.visit_parameters(nullptr, copy);
  return all;
}

}  // namespace

TEMPLATE_TEST_CASE("logits are x W^T + b", "[linear_scorer]", float, double) {
  using Real = TestType;
  for (const bool bias : {false, true}) {
    for (const Index width : {1, 7, 32, 65}) {
      const Index outputs = width + 3;
      LinearScorer<Real> scorer({.width = width, .outputs = outputs, .bias = bias});
      test::randomise(scorer, 3);
      const Weights<Real> of = weights(scorer);
      REQUIRE(static_cast<Index>(of.w.size()) == width * outputs);
      REQUIRE(static_cast<Index>(of.b.size()) == (bias ? outputs : 0));
      RouterCall<Real> call = test::random_call<Real>(6, width, 5);
      const std::vector<Real> y = logits(scorer, call);
      for (Index t = 0; t < 6; ++t) {
        for (Index n = 0; n < outputs; ++n) {
          double exact = bias ? static_cast<double>(of.b[static_cast<std::size_t>(n)]) : 0,
                 size = std::abs(exact);
          for (Index j = 0; j < width; ++j) {
            const double term = static_cast<double>(call.row(t)[j]) *
                                static_cast<double>(of.w[static_cast<std::size_t>(n * width + j)]);
            exact += term;
            size += std::abs(term);
          }
          INFO("D = " << width << ", token " << t << ", output " << n);
          // gamma_{D+1} of this precision, and of the sum in double.
          const double u = static_cast<double>(std::numeric_limits<Real>::epsilon());
          CHECK(std::abs(static_cast<double>(y[static_cast<std::size_t>(t * outputs + n)]) - exact) <=
                static_cast<double>(width + 2) * u * size);
        }
      }
    }
  }
}

TEST_CASE("zero until initialised, then within 1 / sqrt(D)", "[linear_scorer]") {
  LinearScorer<double> scorer({.width = 16, .outputs = 5, .bias = true});
  for (const double w : weights(scorer).w) CHECK(w == 0);
  scorer.initialise(7, 2);
  const auto first = weights(scorer);
  double largest = 0;
  for (const double w : first.w) {
    CHECK(w != 0);
    CHECK(std::abs(w) < 2 * 0.25);
    largest = std::max(largest, std::abs(w));
  }
  CHECK(largest > 0.4);  // 80 draws: all below 4/5 of the bound with probability 2e-8
  for (const double b : first.b) CHECK(b == 0);
  scorer.initialise(7, 2);
  CHECK(weights(scorer).w == first.w);
  scorer.initialise(8, 2);
  CHECK(weights(scorer).w != first.w);
}

TEST_CASE("jitter multiplies x by numbers of its row key alone, in training only", "[linear_scorer]") {
  const Index width = 9;
  // W = identity: the logits are what was multiplied.
  LinearScorer<double> scorer({.width = width, .outputs = width, .jitter = 0.25});
  auto identity = [](const moe::Parameter<double>& p) {
    for (Index o = 0; o < p.value.rows; ++o) p.value(o, o) = 1;
  };
  scorer.visit_parameters(nullptr, identity);
  auto call = test::random_call<double>(50, width, 4);
  CHECK(logits(scorer, call) == call.x);  // inference

  call.training = true;
  const std::vector<double> y = logits(scorer, call);
  double lowest = 2, highest = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double factor = y[i] / call.x[i];
    CHECK(std::abs(factor - 1) <= 0.25 + 1e-15);
    lowest = std::min(lowest, factor);
    highest = std::max(highest, factor);
  }
  CHECK(lowest < 0.8);
  CHECK(highest > 1.2);
  CHECK(test::same_bits(y, logits(scorer, call)));

  // The same row elsewhere in another batch; another key, step or seed.
  const auto moved = logits(scorer, call.subset({13, 7, 2}));
  CHECK(test::same_bits(std::vector<double>(moved.begin() + 2 * width, moved.end()),
                        std::vector<double>(y.begin() + 2 * width, y.begin() + 3 * width)));
  auto other = call;
  other.key[0] += 1;
  CHECK(logits(scorer, other)[0] != y[0]);
  CHECK(logits(scorer, other)[static_cast<std::size_t>(width)] == y[static_cast<std::size_t>(width)]);
  other = call;
  other.step += 1;
  CHECK(logits(scorer, other) != y);
  other = call;
  other.seed += 1;
  CHECK(logits(scorer, other) != y);
}

TEST_CASE("backward goes through the jitter, and skips rows that take no part", "[linear_scorer]") {
  const Index width = 5, outputs = 4, tokens = 6;
  for (const double jitter : {0.0, 0.3}) {
    INFO("jitter " << jitter);
    LinearScorer<double> scorer({.width = width, .outputs = outputs, .bias = true, .jitter = jitter});
    test::randomise(scorer, 2);
    auto call = test::random_call<double>(tokens, width, 8);
    call.training = true;
    std::vector<double> dy;
    const moe::KeyedRandom draw(5, 0, moe::DrawStream::user);
    for (Index i = 0; i < tokens * outputs; ++i) dy.push_back(draw.normal(static_cast<std::uint64_t>(i), 0));

    const std::vector<std::int32_t> rows{0, 2, 3, 5};
    const auto objective = [&] {
      const auto y = logits(scorer, call);
      double sum = 0;
      for (const std::int32_t t : rows) {
        for (Index n = 0; n < outputs; ++n)
          sum += dy[static_cast<std::size_t>(t * outputs + n)] * y[static_cast<std::size_t>(t * outputs + n)];
      }
      return sum;
    };

    const auto run = [&](LinearScorer<double>::Gradients* gradients) {
      LinearScorer<double>::Tape tape;
      logits(scorer, call, &tape);
      std::vector<double> dx(call.x.size(), 0);
      moe::Logits<double> d;
      d.value = moe::MatrixView<double>(dy.data(), tokens, outputs);
      d.rows = rows.data();
      d.row_count = static_cast<Index>(rows.size());
      test::MeasuredMemory memory([&](moe::Arena& a) { scorer.measure_backward(a, tokens, 3); });
      moe::Arena arena = memory.arena();
      BackwardsExecutor executor;
      scorer.backward(call.input(), tape, d, moe::MatrixView<double>(dx.data(), tokens, width), gradients,
                      arena, executor);
      return dx;
    };
    auto gradients = scorer.make_gradients();
    const std::vector<double> dx = run(&gradients);

    // Linear in x, W and b: differences are exact but for rounding.
    const auto check = [&](double& value, double analytic) {
      const double start = value;
      value = start + 0.5;
      const double above = objective();
      value = start - 0.5;
      const double below = objective();
      value = start;
      CHECK(std::abs(analytic - (above - below)) <= 1e-12);
    };
    for (std::size_t i = 0; i < dx.size(); ++i) {
      INFO("x " << i);
      check(call.x[i], dx[i]);
    }
    for (const auto& element : test::elements(scorer, gradients)) {
      INFO(element.name);
      check(*element.value, *element.gradient);
    }

    // What the other rows hold does not matter, not even NaN.
    call.row(1)[2] = call.row(4)[0] = std::numeric_limits<double>::quiet_NaN();
    for (Index n = 0; n < outputs; ++n)
      dy[static_cast<std::size_t>(outputs + n)] = std::numeric_limits<double>::quiet_NaN();
    auto again = scorer.make_gradients();
    CHECK(test::same_bits(dx, run(&again)));
    for (Index i = 0; i < again.weight.size(); ++i) CHECK(again.weight[i] == gradients.weight[i]);
    for (Index i = 0; i < again.bias.size(); ++i) CHECK(again.bias[i] == gradients.bias[i]);
  }
}

TEST_CASE("linear scorer refuses sizes and jitters out of range", "[linear_scorer]") {
  CHECK_THROWS_AS(LinearScorer<float>({.width = 0, .outputs = 2}), moe::config_error);
  CHECK_THROWS_AS(LinearScorer<float>({.width = 2, .outputs = 0}), moe::config_error);
  for (const double bad : {-0.1, 1.0, std::numeric_limits<double>::quiet_NaN()}) {
    CHECK_THROWS_AS(LinearScorer<float>({.width = 2, .outputs = 2, .jitter = bad}), moe::config_error);
  }
}
