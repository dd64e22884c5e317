#include "moe/router/weighting/concept.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "moe/core/random.hpp"
#include "moe/router/weighting/gather.hpp"
#include "moe/router/weighting/sigmoid.hpp"
#include "moe/router/weighting/softmax.hpp"
#include "support/catch.hpp"
#include "support/one_row.hpp"

namespace {

using moe::ExpertId;
using moe::GatherWeighting;
using moe::Index;
using moe::Normalise;
using Row = std::vector<double>;

const std::vector<ExpertId> kIds{4, 0, 3};

moe::Chosen chosen(const std::vector<ExpertId>& ids) {
  moe::Chosen c;
  c.id = ids.data();
  c.count = static_cast<Index>(ids.size());
  return c;
}

template <class Real>
moe::RowContext<Real> row_of(const std::vector<Real>& score) {
  return test::one_row<Real>(nullptr, score.data(), static_cast<Index>(score.size()));
}

template <class Real, class W>
std::vector<Real> weights(const W& w, const std::vector<ExpertId>& ids, const std::vector<Real>& score) {
  std::vector<Real> weight(ids.size(), 77);
  bool keep[16] = {};
  w.forward(row_of(score), chosen(ids), weight.data(), keep);
  for (std::size_t i = 0; i < ids.size(); ++i) CHECK(keep[i]);
  return weight;
}

void check_close(const Row& a, const Row& b, double relative = 1e-14) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    INFO("weight " << i);
    CHECK(std::abs(a[i] - b[i]) <= relative * std::max(1.0, std::abs(b[i])));
  }
}

/// <c, weights> against its analytic gradient; scores of experts that were not chosen get none.
template <class W>
void check_gradient(const W& w, const std::vector<ExpertId>& ids, Row score) {
  const Row c{0.7, -1.3, 0.4};
  Row dscore(score.size(), 1);  // added to what is there
  w.backward(row_of(score), chosen(ids), c.data(), dscore.data());
  for (std::size_t e = 0; e < score.size(); ++e) {
    const double start = score[e], h = 1e-3;
    const auto at = [&](double shift) {
      score[e] = start + shift;
      const Row weight = weights(w, ids, score);
      score[e] = start;
      double sum = 0;
      for (std::size_t i = 0; i < ids.size(); ++i) sum += c[i] * weight[i];
      return sum;
    };
    const double difference = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    INFO("score " << e);
    CHECK(std::abs(dscore[e] - 1 - difference) <= 1e-9);  // h^4 times fifth derivatives below 1000
  }
}

}  // namespace

TEST_CASE("gathered weights: every normalisation by hand", "[weighting]") {
  STATIC_REQUIRE(moe::Weighting<GatherWeighting>);
  const Row score{0.2, 9, 9, 0.1, 0.5};  // kept: 0.5, 0.2, 0.1, sum 0.8
  check_close(weights(GatherWeighting{}, kIds, score), {0.5, 0.2, 0.1});
  check_close(weights(GatherWeighting({.scale = 16}), kIds, score), {8, 3.2, 1.6});
  check_close(weights(GatherWeighting({.normalise = Normalise::sum}), kIds, score), {0.625, 0.25, 0.125});
  check_close(weights(GatherWeighting({.normalise = Normalise::sum, .scale = 2.5}), kIds, score),
              {1.5625, 0.625, 0.3125});
  check_close(weights(GatherWeighting({.normalise = Normalise::sum_plus_eps, .eps = 0.2}), kIds, score),
              {0.5, 0.2, 0.1});
  check_close(weights(GatherWeighting({.normalise = Normalise::max_with_eps, .eps = 0.2}), kIds, score),
              {0.625, 0.25, 0.125});
  check_close(weights(GatherWeighting({.normalise = Normalise::max_with_eps, .eps = 1.6}), kIds, score),
              {0.3125, 0.125, 0.0625});
}

TEST_CASE("p-norms divide by more than the sum of scores", "[weighting]") {
  const Row score{-0.3, 9, 9, 0, 0.4};  // kept: 0.4, -0.3, 0
  check_close(weights(GatherWeighting({.normalise = Normalise::p_norm}), kIds, score),
              {4 / 7.0, -3 / 7.0, 0});
  check_close(weights(GatherWeighting({.normalise = Normalise::p_norm, .p = 2}), kIds, score),
              {0.8, -0.6, 0});
  check_close(weights(GatherWeighting({.normalise = Normalise::p_norm, .scale = 3, .p = 2}), {4}, score),
              {3});
  const Row smooth{-0.3, 9, 9, 0.2, 0.4};
  for (const double p : {1.0, 2.0, 3.5}) {
    check_gradient(GatherWeighting({.normalise = Normalise::p_norm, .scale = -2, .p = p}), kIds, smooth);
  }
}

TEST_CASE("normalised weights may go without the scale", "[weighting]") {
  const Row score{0.2, 0.6};
  const GatherWeighting w(
      {.normalise = Normalise::sum, .scale = 16, .only_if_many = true, .scale_normalised = false});
  check_close(weights(w, {1, 0}, score), {0.75, 0.25});
  check_close(weights(w, {1}, score), {9.6});  // not normalised, hence scaled
  check_close(weights(GatherWeighting({.scale = 16, .scale_normalised = false}), {1, 0}, score), {9.6, 3.2});
  check_gradient(GatherWeighting({.normalise = Normalise::sum, .scale = 16, .scale_normalised = false}), kIds,
                 {0.2, 0.9, 0.8, 0.1, 0.5});
}

TEST_CASE("sigmoids of the chosen", "[weighting]") {
  STATIC_REQUIRE(moe::Weighting<moe::SigmoidWeighting>);
  const moe::SigmoidWeighting w;
  check_close(weights(w, kIds, Row{0, 9, 9, std::log(3.0), -std::log(4.0)}), {0.2, 0.5, 0.75});
  check_close(weights(w, {0, 1}, Row{1000, -1000}), {1, 0});
  check_gradient(w, kIds, {0.2, 0.9, 0.8, -2.1, 1.5});
}

TEST_CASE("sigmoids of the chosen as shares of their sum, scaled", "[weighting]") {
  const auto w = [](bool shares, double scale) {
    return moe::SigmoidWeighting({.shares = shares, .scale = scale});
  };
  const Row score{0, 9, 9, std::log(3.0), -std::log(4.0)};  // sigmoids 0.5, 0.75, 0.2
  check_close(weights(w(true, 1), kIds, score), {0.2 / 1.45, 0.5 / 1.45, 0.75 / 1.45});
  check_close(weights(w(true, 0.5), kIds, score), {0.1 / 1.45, 0.25 / 1.45, 0.375 / 1.45});
  check_close(weights(w(false, 0.5), kIds, score), {0.1, 0.25, 0.375});
  check_close(weights(w(true, 1), {0, 1}, Row{1000, -1000}), {1, 0});
  CHECK(weights(w(true, 1), {0, 1}, Row{-1000, -1000}) == Row{0, 0});  // a sum of 0 divides nothing
  for (const double scale : {1.0, -2.5}) {
    check_gradient(w(true, scale), kIds, {0.2, 0.9, 0.8, -2.1, 1.5});
    check_gradient(w(false, scale), kIds, {0.2, 0.9, 0.8, -2.1, 1.5});
  }
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    CHECK_THROWS_AS(w(true, bad), moe::config_error);
    CHECK_THROWS_AS(moe::SoftmaxWeighting({.scale = bad}), moe::config_error);
  }
}

TEST_CASE("a single choice may stay as it is", "[weighting]") {
  const Row score{0.2, 0.6};
  check_close(weights(GatherWeighting({.normalise = Normalise::sum}), {1}, score), {1});
  check_close(weights(GatherWeighting({.normalise = Normalise::sum, .only_if_many = true}), {1}, score),
              {0.6});
  check_close(weights(GatherWeighting({.normalise = Normalise::sum, .only_if_many = true}), {1, 0}, score),
              {0.75, 0.25});
}

TEST_CASE("gathered weights match central differences", "[weighting]") {
  const Row score{0.2, 0.9, 0.8, 0.1, 0.5};
  for (const bool only_if_many : {false, true}) {
    for (const double scale : {1.0, -2.5}) {
      check_gradient(GatherWeighting({.scale = scale, .only_if_many = only_if_many}), kIds, score);
      check_gradient(
          GatherWeighting({.normalise = Normalise::sum, .scale = scale, .only_if_many = only_if_many}), kIds,
          score);
      check_gradient(
          GatherWeighting({.normalise = Normalise::sum, .scale = scale, .only_if_many = only_if_many}), {2},
          score);
      for (const double eps : {0.3, 1.6}) {  // below and above the sum
        check_gradient(GatherWeighting({.normalise = Normalise::sum_plus_eps, .eps = eps, .scale = scale}),
                       kIds, score);
        check_gradient(GatherWeighting({.normalise = Normalise::max_with_eps, .eps = eps, .scale = scale}),
                       kIds, score);
      }
    }
  }
}

TEST_CASE("scores that are all 0 give weights 0, whatever divides them", "[weighting]") {
  const Row score(5, 0), dweight{1, 2, 3};
  for (const Normalise n : {Normalise::none, Normalise::sum, Normalise::sum_plus_eps, Normalise::max_with_eps,
                            Normalise::p_norm}) {
    const GatherWeighting w({.normalise = n, .eps = 0});
    CHECK(weights(w, kIds, score) == Row(3, 0));
    Row dscore(5, 0);
    w.backward(row_of(score), chosen(kIds), dweight.data(), dscore.data());
    for (const double d : dscore) CHECK(std::isfinite(d));
  }
}

TEST_CASE("tiny sums do not overflow the weights", "[weighting]") {
  const std::vector<float> score{1e-38f, 0, 0, 1e-38f, 2e-38f};
  const auto w = weights(GatherWeighting({.normalise = Normalise::sum, .scale = 16}), kIds, score);
  check_close(Row(w.begin(), w.end()), {8, 4, 4}, 1e-6);  // some roundings to 24 bits
}

TEST_CASE("gathered weights refuse options that are not numbers of use", "[weighting]") {
  const double infinity = std::numeric_limits<double>::infinity(),
               nan = std::numeric_limits<double>::quiet_NaN();
  for (const double bad : {-1.0, nan, infinity}) {
    CHECK_THROWS_AS(GatherWeighting({.eps = bad}), moe::config_error);
  }
  for (const double bad : {0.5, nan, infinity})
    CHECK_THROWS_AS(GatherWeighting({.p = bad}), moe::config_error);
  for (const double bad : {-infinity, nan, infinity}) {
    CHECK_THROWS_AS(GatherWeighting({.scale = bad}), moe::config_error);
  }
}

TEST_CASE("softmax over the kept scores", "[weighting]") {
  STATIC_REQUIRE(moe::Weighting<moe::SoftmaxWeighting>);
  const moe::SoftmaxWeighting w;
  const Row score{0, 50, 60, std::log(2.0), std::log(5.0)};
  check_close(weights(w, kIds, score), {0.625, 0.125, 0.25});
  CHECK(weights(w, {2}, score) == Row{1});
  CHECK(weights(w, {}, score).empty());
  // Far apart and large: no overflow.
  check_close(weights(w, {0, 1}, Row{1000, -1000}), {1, 0});
  check_gradient(w, kIds, score);
  check_gradient(w, {1, 2}, score);
  const moe::SoftmaxWeighting half({.scale = 0.5});
  check_close(weights(half, kIds, score), {0.3125, 0.0625, 0.125});
  check_gradient(half, kIds, score);
}

TEST_CASE("a single weight of 1 passes on a gradient of exactly 0", "[weighting]") {
  const moe::KeyedRandom draw(3, 0, moe::DrawStream::user);
  for (std::uint64_t i = 0; i < 200; ++i) {
    const Row score{draw.uniform(i, 0)}, dweight{draw.normal(i, 1)};
    Row dscore{0};
    moe::SoftmaxWeighting{}.backward(row_of(score), chosen({0}), dweight.data(), dscore.data());
    GatherWeighting({.normalise = Normalise::sum, .scale = 3})
        .backward(row_of(score), chosen({0}), dweight.data(), dscore.data());
    CHECK(dscore[0] == 0);
  }
}
