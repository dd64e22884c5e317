// Thousands of random layers and batches against the naive layer, within a bound on the rounding errors.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "moe/executor/pool.hpp"
#include "support/catch.hpp"
#include "support/layer_cases.hpp"
#include "support/random_spec.hpp"

namespace {

using namespace test;

constexpr auto kFormats = test::kBlockFormats.size() + 1;

/// Layers of one format of the experts' weights.
struct Outcome {
  int compared = 0, ambiguous = 0;
  double tightest = 1e300;   // smallest bound relative to the value it bounds
  double off = 0, size = 0;  // sums of |computed - expected| and of |expected|
};
using Outcomes = std::array<Outcome, kFormats>;  // by Format

/// Whether the oracle could tell; FAILs if it could and the layer is off.
template <class Real>
bool compare(const LayerSpec& spec, Batch<Real>& batch, AnyExecutor executor, Outcome& outcome) {
  unit_roundoff = std::numeric_limits<Real>::epsilon() / 2;
  const auto layer = make_layer<Real>(spec);
  NaiveLayer naive = naive_of(spec, *layer);
  moe::LayerOutput<Real> out(batch.y_view());
  moe::Workspace workspace;
  layer->forward(batch.input(), out, workspace, executor);
  const std::vector<Row> want = naive.forward(batch.naive());
  if (naive.router.ambiguous) {
    ++outcome.ambiguous;
    return false;
  }
  ++outcome.compared;
  // The oracle computes in double as well, so its own errors count once more in double.
  const double own = sizeof(Real) == sizeof(double) ? 2 : 1;
  for (Index t = 0; t < batch.tokens; ++t) {
    for (Index j = 0; j < batch.width; ++j) {
      const Bounded w = want[static_cast<std::size_t>(t)][static_cast<std::size_t>(j)];
      const double got = static_cast<double>(batch.y_view()(t, j));
      if (!(std::abs(got - w.v) <= own * w.e)) {
        FAIL("layer of seed " << spec.seed << ", row " << t << ", column " << j << ": expected " << w.v
                              << " +- " << w.e << ", got " << got);
      }
      outcome.off += std::abs(got - w.v);
      outcome.size += std::abs(w.v);
      if (w.v != 0) outcome.tightest = std::min(outcome.tightest, w.e / std::abs(w.v));
    }
  }
  return true;
}

template <class Real>
Outcomes compare_many(std::uint64_t seed, int configurations) {
  Outcomes outcomes;
  moe::PoolExecutor pool(3);
  moe::SerialExecutor serial;
  for (int i = 0; i < configurations; ++i) {
    INFO("configuration with seed " << seed + static_cast<std::uint64_t>(i));
    Draw draw(seed + static_cast<std::uint64_t>(i));
    const LayerSpec spec = random_spec(draw, std::is_same_v<Real, float>);
    Batch<Real> batch = random_batch<Real>(draw, spec, draw.one_in(20) ? 0 : draw.between(1, 20));
    compare(spec, batch, i % 2 == 0 ? AnyExecutor(serial) : AnyExecutor(pool),
            outcomes[static_cast<std::size_t>(spec.naive.format)]);
  }
  return outcomes;
}

template <class Real>
void compare_listed() {
  moe::SerialExecutor serial;
  for (const LayerCase& c : layer_cases()) {
    if (!runs_in<Real>(c)) continue;
    INFO(c.part);
    Draw draw(c.spec.seed);
    Outcome outcome;
    for (int tokens = 1; tokens <= 20; ++tokens) {
      Batch<Real> batch = random_batch<Real>(draw, c.spec, tokens);
      compare(c.spec, batch, AnyExecutor(serial), outcome);
    }
    CHECK(outcome.compared >= 15);
  }
}

}  // namespace

TEST_CASE("random layers agree with the naive layer in float", "[proof]") {
  const Outcomes outcomes = compare_many<float>(1000, 5000);
  int compared = 0;
  for (const Outcome& format : outcomes) compared += format.compared;
  CHECK(compared >= 4750);  // ties within the rounding errors are few
  const Outcome& dense = outcomes[static_cast<std::size_t>(Format::dense)];
  CHECK(dense.compared >= 3000);
  CHECK(dense.tightest < 1e-5);  // the bound means something
  for (const Format format : kBlockFormats) {
    const Outcome& rounded = outcomes[static_cast<std::size_t>(format)];
    INFO("format " << static_cast<int>(format) << " off " << rounded.off / rounded.size);
    CHECK(rounded.compared >= 200);
    // Half a step is at most 1/254 of a group's largest number, 1/256 of any in bf16; steps do not conspire.
    CHECK(rounded.off < rounded.size / 64);
    CHECK(rounded.off > rounded.size / 65536);  // rows were rounded
  }
}

TEST_CASE("random layers agree with the naive layer in double", "[proof]") {
  const Outcome dense = compare_many<double>(900000, 1500)[static_cast<std::size_t>(Format::dense)];
  CHECK(dense.compared >= 1400);
  CHECK(dense.tightest < 1e-13);
}

TEST_CASE("layers with every listed part agree with the naive layer", "[proof][smoke]") {
  compare_listed<float>();
  compare_listed<double>();
}

TEST_CASE("every listed part has a layer in the sweeps", "[proof][smoke]") {
  const std::vector<LayerCase> cases = layer_cases();
  for (const std::string& part : listed_parts()) {
    INFO(part << " is in a list and in no case of support/layer_cases.hpp");
    CHECK(std::any_of(cases.begin(), cases.end(), [&](const LayerCase& c) { return c.part == part; }));
  }
}

TEST_CASE("random layers agree with the naive layer, a few", "[smoke]") {
  int compared = 0;
  for (const Outcome& format : compare_many<float>(77, 60)) compared += format.compared;
  CHECK(compared >= 50);
}
