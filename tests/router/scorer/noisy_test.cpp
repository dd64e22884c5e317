#include "moe/router/scorer/noisy.hpp"

#include "moe/core/random.hpp"
#include "support/plain_routing.hpp"

using moe::Index;
using test::near;
using Scorer = moe::NoisyScorer<double>;

namespace {

/// A scorer looks like a router to the helpers that only read parameters.
struct Case {
  Scorer scorer{{.width = 4, .outputs = 3}};
  test::RouterCall<double> call = test::random_call<double>(5, 4, 2);
  test::Vector value, clean, scale;

  explicit Case(bool training) {
    call.training = training;
    std::uint64_t i = 0;
    auto fill = [&](const moe::Parameter<double>& p) {
      for (Index o = 0; o < p.value.rows; ++o) {
        for (Index j = 0; j < p.value.cols; ++j) {
          p.value(o, j) = 2 * moe::KeyedRandom(3, 0, moe::DrawStream::user).uniform(i++, 0) - 1;
        }
      }
    };
    scorer.visit_parameters(nullptr, fill);
  }

  moe::Logits<double> views() {
    const auto n = static_cast<std::size_t>(call.tokens * 3);
    for (auto* v : {&value, &clean, &scale}) v->assign(n, std::numeric_limits<double>::quiet_NaN());
    moe::Logits<double> out;
    out.value = {value.data(), call.tokens, 3};
    if (call.training) {
      out.clean = {clean.data(), call.tokens, 3};
      out.noise_scale = {scale.data(), call.tokens, 3};
    }
    return out;
  }

  void run(Scorer::Tape* tape = nullptr) {
    test::MeasuredMemory memory([&](moe::Arena& a) { scorer.measure(a, call.tokens, 1); });
    moe::Arena arena = memory.arena();
    moe::SerialExecutor executor;
    scorer.logits(call.input(), views(), tape, arena, executor);
  }
};

}  // namespace

TEST_CASE("a noisy scorer without training is linear", "[router]") {
  Case c(false);
  c.run();
  const test::Matrix expected = test::linear(test::parameter(c.scorer, "gate.weight"), c.call);
  for (std::size_t i = 0; i < c.value.size(); ++i) CHECK(near(c.value[i], expected[i / 3][i % 3]));
  const test::Vector before = c.value;
  test::set_parameter(c.scorer, "noise_gate.weight", test::Matrix(3, test::Vector(4, 5)));
  c.run();
  CHECK(test::same_bits(before, c.value));
}

TEST_CASE("noise is eps * softplus of the second projection, keyed by row", "[router]") {
  Case c(true);
  c.run();
  const test::Matrix clean = test::linear(test::parameter(c.scorer, "gate.weight"), c.call);
  const test::Matrix noise = test::linear(test::parameter(c.scorer, "noise_gate.weight"), c.call);
  const moe::KeyedRandom draw(c.call.seed, c.call.step, moe::DrawStream::logit_noise);
  for (std::size_t i = 0; i < c.value.size(); ++i) {
    const double scale = std::log1p(std::exp(noise[i / 3][i % 3]));
    const double eps = draw.normal(c.call.key[i / 3], static_cast<std::uint32_t>(i % 3));
    CHECK(near(c.clean[i], clean[i / 3][i % 3]));
    CHECK(near(c.scale[i], scale));
    CHECK(near(c.value[i], clean[i / 3][i % 3] + eps * scale));
  }
  const test::Vector before = c.value;
  ++c.call.step;
  c.run();
  for (std::size_t i = 0; i < before.size(); ++i) CHECK(c.value[i] != before[i]);
}

TEST_CASE("a fresh noisy scorer has zero logits and noise of size ln 2", "[router]") {
  Case c(true);
  c.scorer = Scorer({.width = 4, .outputs = 3});
  c.run();
  for (const double v : c.clean) CHECK(v == 0);
  for (const double v : c.scale) CHECK(near(v, std::log(2.0)));
}

TEST_CASE("a noisy scorer's gradients, through values, clean logits and scales", "[router]") {
  for (const bool training : {true, false}) {
    Case c(training);
    Scorer::Tape tape;
    const moe::KeyedRandom draw(6, 0, moe::DrawStream::user);
    const auto cotangent = [&](std::size_t which, std::size_t i) {
      return draw.normal(i, static_cast<std::uint32_t>(which));
    };
    const auto objective = [&] {
      c.run(&tape);
      double sum = 0;
      for (std::size_t i = 0; i < c.value.size(); ++i) {
        sum += cotangent(0, i) * c.value[i];
        if (training) sum += cotangent(1, i) * c.clean[i] + cotangent(2, i) * c.scale[i];
      }
      return sum;
    };
    const double size = 1 + std::abs(objective());
    const auto dlogits = c.views();
    for (std::size_t i = 0; i < c.value.size(); ++i) {
      c.value[i] = cotangent(0, i);
      c.clean[i] = cotangent(1, i);
      c.scale[i] = cotangent(2, i);
    }
    const auto backward = [&](const moe::Logits<double>& d, Scorer::Gradients* gradients) {
      test::Vector dx(c.call.x.size(), 0);
      test::MeasuredMemory memory([&](moe::Arena& a) { c.scorer.measure_backward(a, c.call.tokens, 1); });
      moe::Arena arena = memory.arena();
      moe::SerialExecutor executor;
      c.scorer.backward(c.call.input(), tape, d, moe::MatrixView<double>(dx.data(), c.call.tokens, 4),
                        gradients, arena, executor);
      return dx;
    };
    const test::Vector value = c.value, clean = c.clean, scale = c.scale;
    Scorer::Gradients gradients = c.scorer.make_gradients();
    test::Vector dx = backward(dlogits, &gradients);
    c.value = value;  // backward may overwrite
    c.clean = clean;
    c.scale = scale;
    CHECK(test::same_bits(dx, backward(dlogits, nullptr)));

    std::vector<std::pair<double*, double>> all;
    auto collect = [&](const moe::Parameter<double>& p) {
      for (Index o = 0; o < p.value.rows; ++o) {
        for (Index j = 0; j < p.value.cols; ++j) all.emplace_back(&p.value(o, j), p.gradient(o, j));
      }
    };
    c.scorer.visit_parameters(&gradients, collect);
    REQUIRE(all.size() == 24);
    for (std::size_t i = 0; i < dx.size(); ++i) all.emplace_back(&c.call.x[i], dx[i]);
    for (std::size_t i = 0; i < all.size(); ++i) {
      const double start = *all[i].first;
      const auto at = [&](double shift) {
        *all[i].first = start + shift;
        const double result = objective();
        *all[i].first = start;
        return result;
      };
      const auto difference = [&](double h) {
        return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
      };
      const double coarse = difference(2e-3), fine = difference(1e-3);
      const double bound = std::abs(coarse - fine) + 64 * 0x1p-52 * size / 1e-3;
      INFO("element " << i << ": analytic " << all[i].second << ", difference " << fine);
      REQUIRE(bound <= 1e-7 * (1 + std::abs(fine)));
      CHECK(std::abs(all[i].second - fine) <= bound);
    }
  }
}

TEST_CASE("sizes of a noisy scorer are checked", "[router]") {
  CHECK_THROWS_AS(Scorer({.width = 0, .outputs = 3}), moe::config_error);
  CHECK_THROWS_AS(Scorer({.width = 3, .outputs = 0}), moe::config_error);
}
