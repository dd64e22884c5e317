// Contract C2: with segments, no byte of one request changes another request's output. And the two published
// leaks, reproduced where nothing protects and closed where segments do.
#include <cmath>
#include <cstring>
#include <limits>

#include "moe/expert/bank/glu.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/layer/isolated_layer.hpp"
#include "moe/router/named/base.hpp"
#include "moe/router/named/rectified.hpp"
#include "moe/router/named/sinkhorn_router.hpp"
#include "support/catch.hpp"
#include "support/layer_cases.hpp"
#include "support/random_spec.hpp"

namespace {

using namespace test;
using R = NaiveRouter;

/// Layers that couple tokens, and two that do not; the last lets rows that are not finite reach the experts.
/// Block storages at sizes with a whole group of 32 and a part of one.
std::vector<LayerSpec> specs(Format format = Format::dense) {
  std::vector<LayerSpec> all;
  const auto add = [&](auto change) {
    LayerSpec spec;
    spec.width = format == Format::dense ? 9 : 41;
    spec.hidden = format == Format::dense ? 11 : 35;
    spec.naive.format = format;
    spec.naive.ffn = spec.naive.router.experts = spec.outputs = 4;
    spec.naive.router.k = 2;
    spec.non_finite = moe::NonFinite::isolate_row;
    spec.seed = all.size() + 31;
    change(spec.naive, spec.naive.router);
    all.push_back(spec);
  };
  add([](NaiveLayer&, R& r) { r.routing = R::Routing::expert_choice, r.factor = 1; });
  add([](NaiveLayer& n, R& r) { r.routing = R::Routing::expert_choice, r.factor = 2, n.shared = 1; });
  add([](NaiveLayer& n, R&) { n.capacity = NaiveLayer::Capacity::first_choices, n.places = 3; });
  add([](NaiveLayer& n, R& r) {
    n.capacity = NaiveLayer::Capacity::best_scores, n.places = 2, r.score = R::Score::sigmoid, n.shared = 1,
    n.shared_gate = true;
  });
  add([](NaiveLayer& n, R& r) {
    n.capacity = NaiveLayer::Capacity::best_scores, n.places = 2, r.routing = R::Routing::expert_choice,
    n.output_bias = true;
  });
  add([](NaiveLayer&, R& r) { r.divide = R::Divide::sum; });
  add([](NaiveLayer&, R& r) {
    r.routing = R::Routing::hash;
    r.hash = {{0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1}, {3, 2, 0, 1, 3, 0, 2, 3, 1, 2, 0}};
  });
  return all;
}

enum class Attack { normal, copies, huge, tiny, zeros, nan, infinities, kinds };

void fill_attack(Draw& draw, Attack attack, Batch<float>& batch, Index victim_begin, Index victim_end) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (Index t = 0; t < batch.tokens; ++t) {
    if (t >= victim_begin && t < victim_end) continue;
    const Index copied = victim_begin + draw.below(static_cast<int>(victim_end - victim_begin));
    for (Index j = 0; j < batch.width; ++j) {
      float& v = batch.x[static_cast<std::size_t>(t * batch.width + j)];
      switch (attack) {
        case Attack::normal:
          v = static_cast<float>(draw.between(-1000, 1000)) * 0.003f;
          break;
        case Attack::copies:
          v = batch.x[static_cast<std::size_t>(copied * batch.width + j)];
          break;
        case Attack::huge:
          v = draw.one_in(2) ? 3e38f : -3e38f;
          break;
        case Attack::tiny:
          v = draw.one_in(2) ? 1e-42f : -1e-45f;
          break;
        case Attack::zeros:
          v = 0;
          break;
        case Attack::nan:
          v = std::numeric_limits<float>::quiet_NaN();
          break;
        default:
          v = draw.one_in(2) ? kInf : -kInf;
      }
    }
  }
}

/// y of rows [begin, end), and of dx with auxiliary scale 0.
std::vector<float> victim_bits(TestLayer<float>& layer, Batch<float>& batch, const std::vector<float>& dy,
                               bool training, Index begin, Index end) {
  moe::SerialExecutor serial;
  moe::Workspace workspace;
  moe::LayerOutput<float> out(batch.y_view());
  moe::LayerInput<float> in = batch.input();
  in.mode = training ? moe::Mode::training : moe::Mode::inference;
  layer.forward_train(in, out, workspace, AnyExecutor(serial));
  std::vector<float> dx(batch.x.size());
  layer.backward({dy.data(), batch.tokens, batch.width}, {dx.data(), batch.tokens, batch.width}, 0, workspace,
                 AnyExecutor(serial));
  std::vector<float> bits(batch.y.begin() + begin * batch.width, batch.y.begin() + end * batch.width);
  bits.insert(bits.end(), dx.begin() + begin * batch.width, dx.begin() + end * batch.width);
  return bits;
}

void attack(const std::vector<LayerSpec>& all, int trials, std::uint64_t seed) {
  for (int trial = 0; trial < trials; ++trial) {
    Draw draw(seed + static_cast<std::uint64_t>(trial));
    const LayerSpec& spec = all[static_cast<std::size_t>(draw.below(static_cast<int>(all.size())))];
    const auto layer = make_layer<float>(spec);
    const Index before = draw.between(0, 7), own = draw.between(1, 9), after = draw.between(0, 7);
    Batch<float> batch(spec, before + own + after, draw.engine());
    batch.offsets = {0, before, before + own, before + own + after};
    std::vector<float> dy(batch.x.size());
    for (float& v : dy) v = 0.01f * static_cast<float>(draw.between(-100, 100));
    const bool training = draw.one_in(2);
    const std::vector<float> want = victim_bits(*layer, batch, dy, training, before, before + own);
    for (int kind = 0; kind < static_cast<int>(Attack::kinds); ++kind) {
      fill_attack(draw, static_cast<Attack>(kind), batch, before, before + own);
      const std::vector<float> got = victim_bits(*layer, batch, dy, training, before, before + own);
      if (std::memcmp(got.data(), want.data(), want.size() * sizeof(float)) != 0) {
        FAIL("layer of seed " << spec.seed << ", trial with seed " << seed + static_cast<std::uint64_t>(trial)
                              << ", attack " << kind);
      }
    }
  }
}

/// Bits of the victim's row (the last) in a batch whose other rows are the attacker's, in one segment or in
/// two.
std::vector<float> last_row(TestLayer<float>& layer, Batch<float>& batch, bool one_segment) {
  batch.offsets = {0, batch.tokens};
  if (!one_segment) batch.offsets = {0, batch.tokens - 1, batch.tokens};
  moe::SerialExecutor serial;
  moe::Workspace workspace;
  moe::LayerOutput<float> out(batch.y_view());
  layer.forward(batch.input(), out, workspace, AnyExecutor(serial));
  return {batch.y.end() - batch.width, batch.y.end()};
}

/// Six rows of a request behind those of others, in one call of a layer over `router`.
template <class Router>
class SharedCall {
 public:
  explicit SharedCall(Router router) : layer_(std::move(router), bank()) {
    layer_.router().scorer().initialise(5);
  }

  /// y of the request's rows; `other` makes the other rows. `segments`: the request has one of its own.
  std::vector<float> request(float other, bool training, bool segments) {
    std::vector<float> x(kRows * kWidth, other), y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (i >= kOthers * kWidth || other == 0) x[i] = std::sin(static_cast<float>(3 * i * i + i));
    }
    moe::LayerInput<float> in(moe::ConstMatrixView<float>(x.data(), kRows, kWidth));
    const std::vector<Index> offsets{0, kOthers, kRows};
    if (segments) in.segments = moe::Segments(offsets);
    in.mode = training ? moe::Mode::training : moe::Mode::inference;
    moe::LayerOutput<float> out(moe::MatrixView<float>(y.data(), kRows, kWidth));
    moe::SerialExecutor serial;
    layer_.forward(in, out, workspace_, serial);
    return {y.begin() + kOthers * kWidth, y.end()};
  }
  /// Whether nothing that the other rows hold shows in the request's.
  bool isolated(bool training, bool segments) {
    const std::vector<float> want = request(0, training, segments);
    for (const float other : {1.0f, -2.0f, 50.0f}) {
      const std::vector<float> got = request(other, training, segments);
      if (std::memcmp(got.data(), want.data(), want.size() * sizeof(float)) != 0) return false;
    }
    return true;
  }

 private:
  static constexpr Index kWidth = 5, kOthers = 10, kRows = 16;
  static moe::Glu<moe::Silu, float> bank() {
    moe::Glu<moe::Silu, float> experts({.experts = 4, .width = kWidth, .hidden = 3});
    experts.initialise(2);
    return experts;
  }

  moe::IsolatedLayer<moe::MoeLayer<Router, moe::Glu<moe::Silu, float>>> layer_;  // which compiles
  moe::Workspace workspace_;
};

}  // namespace

TEST_CASE("nothing in another segment changes a request's bits", "[proof]") {
  attack(specs(), 1500, 500);
}

TEST_CASE("nothing in another segment changes a request's bits, block storages", "[proof]") {
  for (const Format format : kBlockFormats) attack(specs(format), 180, 7000);
}

TEST_CASE("nothing in another segment changes a request's bits, a few", "[smoke]") {
  attack(specs(), 40, 9);
  for (const Format format : kBlockFormats) attack(specs(format), 8, 9);
}

TEST_CASE("nothing in another segment changes a request's bits, whatever the listed part", "[proof][smoke]") {
  for (LayerCase& c : layer_cases()) {
    INFO(c.part);
    c.spec.non_finite = moe::NonFinite::isolate_row;
    attack({c.spec}, 8, 60);
  }
}

// Hayes et al. 2402.05526: with a capacity counted over the whole batch, the attacker's rows take the places
// of the expert the victim wants, and the victim's row is dropped.
TEST_CASE("buffer overflow: closed by segments", "[proof]") {
  LayerSpec spec = specs()[2];
  spec.naive.router.k = 1;
  const auto layer = make_layer<float>(spec);
  std::mt19937_64 random(4);
  Batch<float> batch(spec, 4, random);
  const std::vector<float> x = batch.x;
  const std::vector<float> undisturbed = last_row(*layer, batch, false);
  // The attacker wants the victim's expert with all three rows: as many as it has places.
  for (Index t = 0; t < 3; ++t)
    std::copy_n(x.end() - spec.width, spec.width, batch.x.begin() + t * spec.width);
  CHECK(last_row(*layer, batch, true) == std::vector<float>(static_cast<std::size_t>(spec.width), 0.0f));
  CHECK(last_row(*layer, batch, false) == undisturbed);
}

// Yona et al. 2410.22884: in expert choice over the whole batch, a guess equal to the victim's token ties
// with it and takes its place; the victim's output says whether the guess was right.
TEST_CASE("stealing prompts by ties: closed by segments", "[proof]") {
  LayerSpec spec = specs()[0];
  spec.naive.router.factor = 1;  // of 4 rows each of 4 experts takes the best one
  const auto layer = make_layer<float>(spec);
  std::mt19937_64 random(6);
  Batch<float> wrong(spec, 4, random);
  // A victim that some expert takes with the other rows around: scaled up until it wins.
  for (auto v = wrong.x.end() - spec.width; v != wrong.x.end(); ++v) *v *= 4;
  Batch<float> right(spec, 4, random);
  right.x = wrong.x;
  std::copy_n(wrong.x.end() - spec.width, spec.width,
              right.x.begin());  // the guess: row 0 equals the victim's
  const std::vector<float> zeros(static_cast<std::size_t>(spec.width), 0.0f);
  CHECK(last_row(*layer, wrong, true) != zeros);
  CHECK(last_row(*layer, right, true) == zeros);  // the lower row index wins every tie
  CHECK(last_row(*layer, wrong, false) == last_row(*layer, right, false));
  CHECK(last_row(*layer, right, false) != zeros);
}

TEST_CASE("coupled layers want segments in inference mode", "[proof]") {
  for (const LayerSpec& spec : specs()) {
    const auto layer = make_layer<float>(spec);
    std::mt19937_64 random(2);
    Batch<float> batch(spec, 5, random);
    moe::SerialExecutor serial;
    moe::Workspace workspace;
    moe::LayerOutput<float> out(batch.y_view());
    if (layer->coupling(false) == moe::Coupling::row_independent) {
      CHECK_NOTHROW(layer->forward(batch.input(), out, workspace, AnyExecutor(serial)));
    } else {
      CHECK_THROWS_AS(layer->forward(batch.input(), out, workspace, AnyExecutor(serial)), moe::config_error);
    }
  }
}

TEST_CASE("routers that assign a batch in training look at one row in inference", "[proof]") {
  SharedCall base(moe::base_router<float>({.width = 5, .experts = 4}));
  SharedCall sinkhorn(moe::sinkhorn_router<float>({.width = 5, .experts = 4}));
  SharedCall selective(moe::selective_sinkhorn<float>({.width = 5, .experts = 4, .probability = 1}));
  const auto check = [](auto& call) {
    CHECK(call.isolated(false, false));
    CHECK(call.isolated(false, true));
    CHECK(!call.isolated(true, false));
    CHECK(!call.isolated(true, true));  // over the batch, whatever its segments
  };
  check(base);
  check(sinkhorn);
  check(selective);
  STATIC_REQUIRE(moe::BaseRouter<float>::coupling(true) == moe::Coupling::per_batch);
  STATIC_REQUIRE(moe::BaseRouter<float>::coupling(false) == moe::Coupling::row_independent);
  STATIC_REQUIRE(moe::SinkhornRouter<float>::coupling(true) == moe::Coupling::per_batch);
  STATIC_REQUIRE(moe::SinkhornRouter<float>::coupling(false) == moe::Coupling::row_independent);
}

TEST_CASE("a rectified router couples the rows of a segment, and wants segments in inference", "[proof]") {
  SharedCall rectified(moe::rectified_router<float>({.width = 5, .experts = 4}));
  CHECK_THROWS_AS(rectified.request(0, false, false), moe::config_error);
  CHECK(rectified.isolated(false, true));
  CHECK(rectified.isolated(true, true));
  CHECK(!rectified.isolated(true, false));
  STATIC_REQUIRE(moe::RectifiedRouter<float>::coupling(false) == moe::Coupling::per_segment);
}
