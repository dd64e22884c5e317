#include "moe/expert/spawn.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "support/catch.hpp"

namespace {

using moe::Index;
using Bank = moe::Glu<moe::Silu, double>;

Bank bank(Index experts, std::uint64_t seed, Index hidden = 30) {
  Bank b({.experts = experts, .width = 20, .hidden = hidden, .bias = true});
  b.initialise(seed);
  const auto draw = [&](const moe::Parameter<double>& p) {  // biases of their own
    if (std::string(p.name).ends_with(".bias")) p.value(0, 0) = static_cast<double>(seed) + 0.5;
  };
  b.visit_parameters(nullptr, draw);
  return b;
}

std::vector<double> values(const Bank& b, const std::string& prefix) {
  std::vector<double> all;
  moe::visit_parameters(b, [&](const moe::Parameter<const double>& p) {
    if (!std::string(p.name).starts_with(prefix)) return;
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i) all.push_back(p.value(o, i));
    }
  });
  return all;
}

TEST_CASE("spawned experts are copies with masks of their own", "[expert][smoke]") {
  const Bank one = bank(2, 3);
  Bank many = bank(4, 9), again = many;
  moe::spawn_experts(one, many, {.from = 1, .masked = 0.5, .seed = 7});
  moe::spawn_experts(one, again, {.from = 1, .masked = 0.5, .seed = 7});
  const std::vector<double> want = values(one, "experts.1.");
  CHECK(values(many, "experts.") == values(again, "experts."));
  std::vector<std::vector<bool>> masks;
  for (Index e = 0; e < 4; ++e) {
    const std::vector<double> got = values(many, "experts." + std::to_string(e) + ".");
    REQUIRE(got.size() == want.size());
    std::vector<bool> mask;
    Index masked = 0, wrong = 0;
    for (std::size_t i = 0; i < want.size(); ++i) {
      mask.push_back(got[i] == 0 && want[i] != 0);
      masked += mask.back();
      wrong += !mask.back() && got[i] != want[i];
    }
    CHECK(wrong == 0);
    // 1800 weights, each masked with probability 1/2: six standard deviations are 127.
    CHECK(std::abs(masked - 900) < 127);
    for (const auto& other : masks) CHECK(mask != other);
    masks.push_back(mask);
  }
}

TEST_CASE("without a mask spawned experts are the one they come from; biases are never masked",
          "[expert][smoke]") {
  const Bank one = bank(1, 3);
  Bank many = bank(3, 9), most = many;
  moe::spawn_experts(one, many, {.masked = 0});
  for (const char* e : {"experts.0.", "experts.1.", "experts.2."})
    CHECK(values(many, e) == values(one, "experts.0."));
  moe::spawn_experts(one, most, {.masked = 1 - 0x1p-53});
  for (const double v : values(most, "experts.")) CHECK((v == 0 || v == 3.5));
}

TEST_CASE("banks that differ are refused, and nothing is written", "[expert][smoke]") {
  const Bank one = bank(2, 3), other = bank(2, 3, 31);
  Bank many = bank(4, 9);
  const std::vector<double> before = values(many, "experts.");
  for (const double masked : {-0.1, 1.0, std::numeric_limits<double>::quiet_NaN()}) {
    CHECK_THROWS_AS(moe::spawn_experts(one, many, {.masked = masked}), moe::config_error);
  }
  CHECK_THROWS_AS(moe::spawn_experts(one, many, {.from = 2}), moe::config_error);
  CHECK_THROWS_AS(moe::spawn_experts(one, many, {.from = -1}), moe::config_error);
  CHECK_THROWS_WITH(moe::spawn_experts(other, many, {}), Catch::Matchers::Contains("gate_proj"));
  const Bank bare({.experts = 1, .width = 20, .hidden = 30});
  CHECK_THROWS_AS(moe::spawn_experts(bare, many, {}), moe::config_error);
  CHECK(values(many, "experts.") == before);
}

}  // namespace
