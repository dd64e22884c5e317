#include "moe/analysis/effective_parameters.hpp"

#include <cmath>
#include <limits>

#include "support/catch.hpp"

using moe::effective_parameter_count;
using moe::kHashLaw;
using moe::kRlRLaw;
using moe::kSBaseLaw;

TEST_CASE("one expert is worth its parameters, exactly", "[analysis][smoke]") {
  for (const auto& law : {kSBaseLaw, kRlRLaw, kHashLaw}) {
    CHECK(std::abs(moe::saturated_experts(law, 1) / law.start - 1) < 1e-12);
    CHECK(effective_parameter_count(law, 1.3e9, 1) == 1.3e9);
    CHECK(effective_parameter_count(law, 15e6, 1) == 15e6);
  }
}

TEST_CASE("more experts and more parameters are worth more, but experts no more than `most`", "[analysis]") {
  for (const auto& law : {kSBaseLaw, kRlRLaw, kHashLaw}) {
    double last = 0, saturated = 0;
    for (double experts = 1; experts <= 4096; experts *= 2) {
      const double epc = effective_parameter_count(law, 25e6, experts);
      CHECK(epc > last);
      CHECK(epc < effective_parameter_count(law, 50e6, experts));
      CHECK(moe::saturated_experts(law, experts) > saturated);
      last = epc;
      saturated = moe::saturated_experts(law, experts);
    }
    CHECK(saturated < law.most);
    // Where b + c log N is above 0, experts do harm.
    CHECK(effective_parameter_count(law, 1e15, 64) < 1e15);
  }
}

TEST_CASE("a dense model of that many parameters has that loss", "[analysis]") {
  for (const auto& law : {kSBaseLaw, kRlRLaw, kHashLaw}) {
    for (const double experts : {1.0, 8.0, 512.0}) {
      const double epc = effective_parameter_count(law, 130e6, experts);
      CHECK(std::abs(moe::routed_loss(law, epc, 1) / moe::routed_loss(law, 130e6, experts) - 1) < 1e-12);
    }
  }
  // The paper's example: 5M with 128 experts are worth some 55M (its coefficients have three digits).
  CHECK(std::abs(effective_parameter_count(kSBaseLaw, 5e6, 128) / 55e6 - 1) < 0.1);
  // By hand: S = 1 / (1 / (3 + 2) + 1 / 2), L = 10^d N^a S^b.
  const moe::RoutedScalingLaw law{-0.5, -1, 0, 0.25, 1, 2};
  CHECK(std::abs(moe::saturated_experts(law, 4) - 1 / 0.7) < 1e-14);
  CHECK(std::abs(moe::routed_loss(law, 100, 4) - std::pow(10, 0.25) / 10 * 0.7) < 1e-14);
  CHECK(std::abs(effective_parameter_count(law, 100, 4) - 100 / 0.49) < 1e-11);
}

TEST_CASE("laws and sizes that make no sense are refused", "[analysis]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double bad : {0.0, -1.0, nan, std::numeric_limits<double>::infinity()})
    CHECK_THROWS_AS(effective_parameter_count(kSBaseLaw, bad, 2), moe::config_error);
  for (const double bad : {0.0, 0.5, nan}) {
    CHECK_THROWS_AS(effective_parameter_count(kSBaseLaw, 1e6, bad), moe::config_error);
    CHECK_THROWS_AS(moe::saturated_experts(kSBaseLaw, bad), moe::config_error);
  }
  auto law = kSBaseLaw;
  law.start = law.most;
  CHECK_THROWS_AS(moe::routed_loss(law, 1e6, 2), moe::config_error);
  law = kSBaseLaw;
  law.a = 0.1;
  CHECK_THROWS_AS(moe::routed_loss(law, 1e6, 2), moe::config_error);
  law = kSBaseLaw;
  law.c = nan;
  CHECK_THROWS_AS(moe::routed_loss(law, 1e6, 2), moe::config_error);
}
