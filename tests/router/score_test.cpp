#include "moe/router/score/concept.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "moe/core/random.hpp"
#include "moe/router/score/identity.hpp"
#include "moe/router/score/relu.hpp"
#include "moe/router/score/sigmoid.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/score/sqrt_softplus.hpp"
#include "support/catch.hpp"
#include "support/one_row.hpp"

namespace {

using moe::Index;
using test::one_row;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<double> random_row(Index n, std::uint64_t seed) {
  const moe::KeyedRandom draw(seed, 0, moe::DrawStream::user);
  std::vector<double> row;
  for (Index i = 0; i < n; ++i) row.push_back(2 * draw.normal(static_cast<std::uint64_t>(i), 0));
  return row;
}

/// Scores and probabilities again, from their definitions.
std::vector<double> naive_score(const moe::Softmax&, const std::vector<double>& logit) {
  double sum = 0;
  for (const double l : logit) sum += std::exp(l);
  std::vector<double> s;
  for (const double l : logit) s.push_back(std::exp(l) / sum);
  return s;
}
std::vector<double> naive_score(const moe::IdentityScore&, const std::vector<double>& logit) {
  return logit;
}
std::vector<double> naive_score(const moe::SigmoidScore&, const std::vector<double>& logit) {
  std::vector<double> s;
  for (const double l : logit) s.push_back(1 / (1 + std::exp(-l)));
  return s;
}
std::vector<double> naive_score(const moe::ReluScore&, const std::vector<double>& logit) {
  std::vector<double> s;
  for (const double l : logit) s.push_back(l > 0 ? l : 0);
  return s;
}
std::vector<double> naive_score(const moe::SqrtSoftplusScore&, const std::vector<double>& logit) {
  std::vector<double> s;
  for (const double l : logit) s.push_back(std::sqrt(std::log1p(std::exp(l))));
  return s;
}
template <class F>
std::vector<double> naive_probability(const F& f, const std::vector<double>& logit) {
  if constexpr (std::is_same_v<F, moe::IdentityScore>) return naive_score(moe::Softmax{}, logit);
  std::vector<double> p = naive_score(f, logit);
  double sum = 0;
  for (const double s : p) sum += s;
  for (double& s : p) s = sum > 0 ? s / sum : 0;
  return p;
}

template <class F, class Real>
std::vector<Real> score_of(const F& f, const std::vector<Real>& logit) {
  std::vector<Real> score(logit.size());
  f.forward(one_row<Real>(logit.data(), nullptr, static_cast<Index>(logit.size())), score.data());
  return score;
}
template <class F, class Real>
std::vector<Real> probability_of(const F& f, const std::vector<Real>& logit) {
  const std::vector<Real> score = score_of(f, logit);
  std::vector<Real> p(logit.size());
  f.probability(one_row<Real>(logit.data(), score.data(), static_cast<Index>(logit.size())), p.data());
  return p;
}

/// |a - b| <= 64 u max(1, |b|): softmax and sigmoid of n <= 40 logits below 10 err by less
/// (kernel/softmax.hpp).
template <class Real>
void check_close(const std::vector<Real>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    INFO("element " << i);
    CHECK(std::abs(static_cast<double>(a[i]) - b[i]) <=
          64 * static_cast<double>(std::numeric_limits<Real>::epsilon()) * std::max(1.0, std::abs(b[i])));
  }
}

/// <c, score> + <d, probability> as a function of the logits, against its analytic gradient.
template <class F>
void check_gradient(const F& f, std::vector<double> logit) {
  const auto n = static_cast<Index>(logit.size());
  const std::vector<double> c = random_row(n, 71), d = random_row(n, 72);
  const auto objective = [&](const std::vector<double>& at) {
    const std::vector<double> s = score_of(f, at), p = probability_of(f, at);
    double sum = 0;
    for (std::size_t i = 0; i < at.size(); ++i) sum += c[i] * s[i] + d[i] * p[i];
    return sum;
  };
  const std::vector<double> score = score_of(f, logit), p = probability_of(f, logit);
  std::vector<double> dscore = c, dlogit(logit.size(), 1);  // added to what is there
  f.probability_backward(one_row<double>(logit.data(), score.data(), n), p.data(), d.data(), dscore.data());
  f.backward(one_row<double>(logit.data(), score.data(), n), dscore.data(), dlogit.data());
  for (std::size_t i = 0; i < logit.size(); ++i) {
    const double start = logit[i], h = 1e-3;
    const auto at = [&](double shift) {
      logit[i] = start + shift;
      const double value = objective(logit);
      logit[i] = start;
      return value;
    };
    const double difference = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    INFO("logit " << i);
    // h^4 times fifth derivatives (some tens), and rounding of sums below 100 over h.
    CHECK(std::abs(dlogit[i] - 1 - difference) <= 1e-10);
  }
}

}  // namespace

TEMPLATE_TEST_CASE("score functions match their definitions", "[score]", moe::Softmax, moe::IdentityScore,
                   moe::SigmoidScore, moe::ReluScore, moe::SqrtSoftplusScore) {
  STATIC_REQUIRE(moe::ScoreFunction<TestType>);
  const TestType f{};
  for (const Index n : {1, 2, 3, 8, 17, 40}) {
    INFO("n = " << n);
    const std::vector<double> logit = random_row(n, static_cast<std::uint64_t>(n));
    check_close(score_of(f, logit), naive_score(f, logit));
    check_close(probability_of(f, logit), naive_probability(f, logit));
    std::vector<float> single(logit.begin(), logit.end());
    const std::vector<double> widened(single.begin(), single.end());
    check_close(score_of(f, single), naive_score(f, widened));
    check_close(probability_of(f, single), naive_probability(f, widened));
  }
}

TEMPLATE_TEST_CASE("score functions match central differences", "[score]", moe::Softmax, moe::IdentityScore,
                   moe::SigmoidScore, moe::ReluScore, moe::SqrtSoftplusScore) {
  for (const Index n : {1, 2, 9, 33}) {
    INFO("n = " << n);
    std::vector<double> logit = random_row(n, 100 + static_cast<std::uint64_t>(n));
    for (double& l : logit) l += l < 0 ? -0.1 : 0.1;  // away from the kink of relu
    logit[0] = std::abs(logit[0]);                    // and from a relu sum of 0
    check_gradient(TestType{}, logit);
  }
}

TEMPLATE_TEST_CASE("masked outputs have probability 0 and gradient 0", "[score]", moe::Softmax,
                   moe::IdentityScore, moe::SigmoidScore, moe::ReluScore, moe::SqrtSoftplusScore) {
  const TestType f{};
  const Index n = 11;
  std::vector<double> logit = random_row(n, 5);
  logit[0] = std::abs(logit[0]) + 0.1;
  for (const std::size_t masked : {3u, 7u, 10u}) logit[masked] = -kInfinity;
  std::vector<double> open;
  for (const double l : logit) {
    if (l > -kInfinity) open.push_back(l);
  }
  const std::vector<double> p = probability_of(f, logit);
  std::vector<double> p_open;
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (logit[i] > -kInfinity) {
      p_open.push_back(p[i]);
    } else {
      CHECK(p[i] == 0);
    }
  }
  check_close(p_open, naive_probability(f, open));

  const std::vector<double> score = score_of(f, logit), d = random_row(n, 6);
  std::vector<double> dscore(logit.size(), 0), dlogit(logit.size(), 0);
  f.probability_backward(one_row<double>(logit.data(), score.data(), n), p.data(), d.data(), dscore.data());
  f.backward(one_row<double>(logit.data(), score.data(), n), dscore.data(), dlogit.data());
  for (std::size_t i = 0; i < p.size(); ++i) {
    INFO("output " << i);
    CHECK(std::isfinite(dlogit[i]));
    if (logit[i] == -kInfinity) CHECK(dlogit[i] == 0);
  }
}

TEST_CASE("relu scores that are all 0 have no probabilities and pass no gradient", "[score]") {
  const moe::ReluScore f{};
  const std::vector<double> logit{-1, -2, 0}, d{1, 2, 3};
  const std::vector<double> score = score_of(f, logit), p = probability_of(f, logit);
  CHECK(p == std::vector<double>(3, 0));
  std::vector<double> dscore(3, 0);
  f.probability_backward(one_row<double>(logit.data(), score.data(), 3), p.data(), d.data(), dscore.data());
  CHECK(dscore == std::vector<double>(3, 0));
}

TEST_CASE("square roots of softplus neither overflow nor lose small scores", "[score]") {
  const moe::SqrtSoftplusScore f{};
  const std::vector<double> logit{-700, -40, 40, 1e6}, ones(4, 1);
  const std::vector<double> score = score_of(f, logit);
  // ln(1 + e^x) is e^x below -36 and x above 36, to double precision.
  CHECK(std::abs(score[0] / std::exp(-350.0) - 1) <= 1e-12);  // e^-350 itself: 350 roundings
  CHECK(std::abs(score[1] / std::exp(-20.0) - 1) <= 1e-14);
  CHECK(std::abs(score[2] / std::sqrt(40.0) - 1) <= 1e-15);
  CHECK(score[3] == 1000);
  std::vector<double> dlogit(4, 0);
  f.backward(one_row(logit.data(), score.data(), 4), ones.data(), dlogit.data());
  CHECK(std::abs(dlogit[1] / (score[1] / 2) - 1) <= 1e-14);
  CHECK(std::abs(dlogit[3] / 0.0005 - 1) <= 1e-15);
}
