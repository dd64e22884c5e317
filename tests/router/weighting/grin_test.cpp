#include "moe/router/weighting/grin.hpp"

#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "moe/core/random.hpp"
#include "moe/router/weighting/concept.hpp"
#include "moe/router/weighting/sparse_mixer.hpp"
#include "support/one_row.hpp"
#include "support/plain_routing.hpp"

using moe::ExpertId;
using moe::GrinWeighting;
using moe::Index;
using test::near;
using test::Vector;

namespace {

moe::RouterInput<double> call(const std::uint64_t& key, bool training = true) {
  moe::RouterInput<double> in;
  in.training = training;
  in.draws = moe::DrawKey{3, 1};
  in.row_key = {&key, 1};
  return in;
}

}  // namespace

TEST_CASE("in training the best weighs its share, others a third of it three times in four", "[router]") {
  const Vector h{1.6, 2, 1, 1.3};
  const GrinWeighting grin({.eps = 0.2});
  // The second is drawn from 1.6, 1.3 and 1 without 2.
  const double first = std::exp(1.3) / (std::exp(1.6) + std::exp(2) + std::exp(1.3));
  const double second = std::exp(2) / (std::exp(1.6) + std::exp(2));
  const ExpertId ids[] = {3, 1};
  int whole = 0;
  constexpr int kRows = 4000;
  for (std::uint64_t key = 0; key < kRows; ++key) {
    const auto in = call(key);
    const auto row = test::one_row<double>(in, h.data(), h.data(), 4);
    double w[2];
    bool keep[2] = {};
    grin.forward(row, {ids, 2}, w, keep);
    CHECK((keep[0] && keep[1]));
    const bool is_whole = near(w[0], first);
    CHECK((is_whole || near(w[0], first / 3)));
    CHECK(is_whole == (row.uniform(moe::DrawStream::multiplier, 0) > 0.75));
    CHECK(near(w[1], second));  // the best of what is left: always whole
    whole += is_whole ? 1 : 0;
  }
  CHECK(std::abs(whole / static_cast<double>(kRows) - 0.25) < 5 * std::sqrt(0.1875 / kRows));
}

TEST_CASE("the gradient is that of the whole share, whatever the draw", "[router]") {
  const Vector h{1.6, 2, 1, 1.3};
  const GrinWeighting grin({.eps = 0.2});
  const ExpertId ids[] = {3};
  const double sum = std::exp(1.6) + std::exp(2) + std::exp(1.3);
  for (std::uint64_t key = 0; key < 20; ++key) {
    const auto in = call(key);
    Vector dscore(4, 1);
    const double dweight[] = {0.5};
    grin.backward(test::one_row<double>(in, h.data(), h.data(), 4), {ids, 1}, dweight, dscore.data());
    const double p = std::exp(1.3) / sum;
    CHECK(near(dscore[0], 1 - 0.5 * p * std::exp(1.6) / sum));
    CHECK(near(dscore[1], 1 - 0.5 * p * std::exp(2) / sum));
    CHECK(dscore[2] == 1);
    CHECK(near(dscore[3], 1 + 0.5 * p * (1 - p)));
  }
}

TEST_CASE("inference is the sparse mixer, bit for bit, and a choice out of reach weighs nothing",
          "[router]") {
  const Vector h{1.6, 2, 1, 1.3};
  const GrinWeighting grin({.eps = 0.2});
  const moe::SparseMixerWeighting mixer({.eps = 0.2});
  const ExpertId ids[] = {1, 0};
  const std::uint64_t key = 4;
  const auto in = call(key, false);
  const auto row = test::one_row<double>(in, h.data(), h.data(), 4);
  double a[2], b[2];
  bool keep[2];
  Vector da(4, 0), db(4, 0);
  const double dweight[] = {0.5, -0.25};
  grin.forward(row, {ids, 2}, a, keep);
  mixer.forward(row, {ids, 2}, b, keep);
  grin.backward(row, {ids, 2}, dweight, da.data());
  mixer.backward(row, {ids, 2}, dweight, db.data());
  CHECK((a[0] == b[0] && a[1] == b[1]));
  CHECK(da == db);
  const auto training = call(key);
  const ExpertId far[] = {2};
  Vector none(4, 0);
  grin.forward(test::one_row<double>(training, h.data(), h.data(), 4), {far, 1}, a, keep);
  grin.backward(test::one_row<double>(training, h.data(), h.data(), 4), {far, 1}, dweight, none.data());
  CHECK(a[0] == 0);
  for (const double g : none) CHECK(g == 0);
}

TEST_CASE("GRIN's weights want draws in training and an eps that is a number", "[router]") {
  for (const double eps : {-0.1, std::nan(""), std::numeric_limits<double>::infinity()})
    CHECK_THROWS_AS(GrinWeighting({.eps = eps}), moe::config_error);
  moe::RouterInput<double> in;
  CHECK_NOTHROW(GrinWeighting({}).check_call(in));
  in.training = true;
  CHECK_THROWS_AS(GrinWeighting({}).check_call(in), moe::config_error);
}
