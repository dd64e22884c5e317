#include "moe/router/soft/slot_scorer.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "moe/executor/pool.hpp"
#include "support/catch.hpp"
#include "support/mixing.hpp"

namespace {

using moe::Index;

std::vector<double> logits(const moe::SlotScorer<double>& scorer, const std::vector<double>& x) {
  const Index tokens = static_cast<Index>(x.size()) / scorer.width();
  std::vector<double> l(static_cast<std::size_t>(tokens * scorer.outputs()));
  moe::RouterInput<double> in;
  in.x = moe::ConstMatrixView<double>(x.data(), tokens, scorer.width());
  moe::Arena measuring;
  scorer.measure(measuring, tokens, 2);
  moe::Workspace memory;
  moe::Arena arena = memory.arena(measuring.bytes());
  moe::PoolExecutor pool(2);
  scorer.logits(in, moe::Logits<double>{.value = {l.data(), tokens, scorer.outputs()}}, nullptr, arena, pool);
  return l;
}

}  // namespace

TEST_CASE("logits of slots are cosines times the scale", "[router][smoke]") {
  moe::SlotScorer<double> scorer({.width = 3, .slots = 40});
  scorer.initialise(1);
  scorer.set_scale(2);
  std::vector<double> x = test::normal_rows(5, 3, 2);
  const std::vector<double> l = logits(scorer, x);
  const auto phi = scorer.phi().weight();
  for (Index t = 0; t < 5; ++t) {
    for (Index s = 0; s < 40; ++s) {
      double inner = 0, xx = 0, pp = 0;
      for (Index j = 0; j < 3; ++j) {
        const double v = x[static_cast<std::size_t>(t * 3 + j)];
        inner += v * phi(s, j), xx += v * v, pp += phi(s, j) * phi(s, j);
      }
      CHECK(std::abs(l[static_cast<std::size_t>(t * 40 + s)] - 2 * inner / std::sqrt(xx * pp)) < 1e-14);
    }
  }
  for (double& v : x) v *= 4;  // lengths do not count
  CHECK(logits(scorer, x) == l);
}

TEST_CASE("a row of zeros has logits of 0; what is not finite shows in them", "[router]") {
  moe::SlotScorer<double> scorer({.width = 2, .slots = 3});
  CHECK(logits(scorer, {1, 2}) == std::vector<double>(3, 0.0));  // of directions that are 0
  scorer.initialise(1);
  CHECK(logits(scorer, {0, 0}) == std::vector<double>(3, 0.0));
  CHECK(std::isnan(logits(scorer, {0, std::numeric_limits<double>::infinity()})[0]));
  scorer.set_scale(std::numeric_limits<double>::quiet_NaN());
  CHECK(std::isnan(logits(scorer, {1, 2})[0]));
}
