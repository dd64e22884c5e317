#include "moe/router/scorer/cosine.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "moe/plan/statistics.hpp"
#include "moe/router/kind/token_choice.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/weighting/gather.hpp"
#include "support/plain_routing.hpp"
#include "support/router_laws.hpp"

namespace {

using moe::CosineScorer;
using moe::Index;
using Router = moe::TokenChoice<CosineScorer<double>, moe::Softmax, moe::TopKSelection, moe::GatherWeighting>;

Router make(double temperature, bool bias = true) {
  Router router(CosineScorer<double>({.width = 5, .projected = 6, .outputs = 7, .bias = bias}),
                moe::Softmax{}, moe::TopKSelection(3), moe::GatherWeighting{});
  test::randomise(router, 3);
  auto set = [&](const moe::Parameter<double>& p) {
    if (std::string(p.name) == "temperature") p.value(0, 0) = temperature;
  };
  router.scorer().visit_parameters(nullptr, set);
  return router;
}

std::vector<double> logits_of(const Router& router, const test::RouterCall<double>& call) {
  std::vector<double> out(static_cast<std::size_t>(call.tokens * router.outputs()));
  moe::Logits<double> logits;
  logits.value = moe::MatrixView<double>(out.data(), call.tokens, router.outputs());
  test::MeasuredMemory memory([&](moe::Arena& a) { router.scorer().measure(a, call.tokens, 1); });
  moe::Arena arena = memory.arena();
  moe::SerialExecutor serial;
  router.scorer().logits(call.input(), logits, nullptr, arena, serial);
  return out;
}

}  // namespace

TEST_CASE("logits are cosines times the temperature's exponential, at most 100", "[cosine_scorer]") {
  for (const double temperature : {0.7, 9.0}) {
    auto router = make(temperature);
    std::vector<double> p, b, s;
    auto copy = [&](const moe::Parameter<double>& q) {
      const std::string name = q.name;
      auto& to = name == "sim_matrix" ? s : (name == "cosine_projector.bias" ? b : p);
      if (name == "temperature") return;
      for (Index o = 0; o < q.value.rows; ++o) {
        for (Index i = 0; i < q.value.cols; ++i) to.push_back(q.value(o, i));
      }
    };
    router.scorer().visit_parameters(nullptr, copy);
    REQUIRE((p.size() == 30 && b.size() == 6 && s.size() == 42));
    const auto call = test::random_call<double>(4, 5, 2);
    const auto out = logits_of(router, call);
    for (std::size_t t = 0; t < 4; ++t) {
      double z[6], zz = 0;
      for (std::size_t j = 0; j < 6; ++j) {
        z[j] = b[j];
        for (std::size_t i = 0; i < 5; ++i) z[j] += p[5 * j + i] * call.x[5 * t + i];
        zz += z[j] * z[j];
      }
      for (std::size_t e = 0; e < 7; ++e) {
        double zs = 0, ss = 0;
        for (std::size_t j = 0; j < 6; ++j) {
          zs += z[j] * s[7 * j + e];  // columns of [Dp, N]
          ss += s[7 * j + e] * s[7 * j + e];
        }
        const double factor = temperature > std::log(100.0) ? 100 : std::exp(temperature);
        CHECK(std::abs(out[7 * t + e] - factor * zs / std::sqrt(zz * ss)) <= 64 * 0x1p-52 * factor);
      }
    }
  }
}

TEST_CASE("cosine routers obey the laws and match central differences", "[cosine_scorer]") {
  for (const bool bias : {false, true}) {
    auto router = make(0.7, bias);
    test::check_router_laws(router, {.masks = true});
    test::check_router_gradients(router, 4);
  }
  auto hot = make(9);  // beyond ln 100: no gradient to the temperature
  test::check_router_gradients(hot, 4, {.step = 2e-4});
}

TEST_CASE("rows and directions of zero have cosine 0", "[cosine_scorer]") {
  Router router(CosineScorer<double>({.width = 3, .projected = 4, .outputs = 5}), moe::Softmax{},
                moe::TopKSelection(2), moe::GatherWeighting{});
  for (const double l : logits_of(router, test::random_call<double>(2, 3, 1))) CHECK(l == 0);
  router.scorer().initialise(1);
  auto call = test::random_call<double>(2, 3, 1);
  for (const double l : logits_of(router, call)) CHECK((l != 0 && std::abs(l) <= 2.0000001));
}

TEST_CASE("cosine scorers refuse sizes and factors that do not fit", "[cosine_scorer]") {
  using S = CosineScorer<float>;
  CHECK_THROWS_AS(S({.width = 3, .projected = 4, .outputs = 0}), moe::config_error);
  CHECK_THROWS_AS(S({.width = 0, .projected = 4, .outputs = 2}), moe::config_error);
  CHECK_THROWS_WITH(S({.width = 3, .projected = -1, .outputs = 2}),
                    "moe: projected width: expected a value in [0, 2147483647], got -1");
  for (const double bad : {0.5, std::nan(""), std::numeric_limits<double>::infinity()}) {
    CHECK_THROWS_AS(S({.width = 3, .projected = 4, .outputs = 2, .largest = bad}), moe::config_error);
  }
  for (const double bad : {0.0, -1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    CHECK_THROWS_AS(S({.width = 3, .outputs = 2, .tau = bad}), moe::config_error);
  }
  for (const double bad : {-1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    CHECK_THROWS_AS(S({.width = 3, .outputs = 2, .direction_length = bad}), moe::config_error);
  }
}

TEST_CASE("what is not normed counts with its length, and tau may stay what it is", "[cosine_scorer]") {
  for (const bool unit_rows : {false, true}) {
    for (const bool unit_directions : {false, true}) {
      for (const Index projected : {0, 6}) {
        const bool trained = projected == 0;
        INFO("unit rows " << unit_rows << ", directions " << unit_directions << ", projected " << projected);
        Router router(CosineScorer<double>({.width = 5,
                                            .projected = projected,
                                            .outputs = 7,
                                            .bias = false,
                                            .tau = 0.3,
                                            .trained_tau = trained,
                                            .unit_rows = unit_rows,
                                            .unit_directions = unit_directions}),
                      moe::Softmax{}, moe::TopKSelection(3), moe::GatherWeighting{});
        test::randomise(router, 3);
        if (trained) test::set_parameter(router, "temperature", {{-std::log(0.3)}});
        const test::Matrix s = test::parameter(router, "sim_matrix");
        const auto call = test::random_call<double>(4, 5, 2);
        test::Matrix z = test::linear(test::identity(5), call);
        if (projected > 0) z = test::linear(test::parameter(router, "cosine_projector.weight"), call);
        const auto out = logits_of(router, call);
        for (std::size_t t = 0; t < 4; ++t) {
          for (std::size_t e = 0; e < 7; ++e) {
            double zs = 0, zz = 0, ss = 0;
            for (std::size_t j = 0; j < s.size(); ++j) {
              zs += z[t][j] * s[j][e];
              zz += z[t][j] * z[t][j];
              ss += s[j][e] * s[j][e];
            }
            const double sizes = (unit_rows ? std::sqrt(zz) : 1) * (unit_directions ? std::sqrt(ss) : 1);
            CHECK(test::near(out[7 * t + e], zs / sizes / 0.3));
          }
        }
        test::check_router_gradients(router, 4);
      }
    }
  }
}

TEST_CASE("directions are set back to their length at every step's end", "[cosine_scorer]") {
  CosineScorer<double> scorer({.width = 3, .projected = 4, .outputs = 5, .direction_length = 1.5});
  scorer.initialise(2);
  const auto check_lengths = [&](double expected) {
    for (Index e = 0; e < 5; ++e) {
      double squares = 0;
      for (Index j = 0; j < 4; ++j) squares += std::pow(scorer.directions()[4 * e + j], 2);
      CHECK(test::near(std::sqrt(squares), expected));
    }
  };
  check_lengths(1.5);
  auto twice = [](const char*, double* values, double*, Index n) {
    for (Index i = 0; i < n; ++i) values[i] *= 2;
  };
  scorer.visit_storage(nullptr, twice);
  check_lengths(3);
  scorer.on_step_end(moe::RouteStats{});
  check_lengths(1.5);
}
