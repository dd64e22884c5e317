// Contract C1: a row's bits do not depend on the rest of the batch, its place in it, the threads or the
// executor. Contract C3 along the way: the same call gives the same bits.
#include <cstring>
#include <unsupported/Eigen/CXX11/ThreadPool>

#include "moe/executor/eigen.hpp"
#include "moe/executor/openmp.hpp"
#include "moe/executor/pool.hpp"
#include "support/catch.hpp"
#include "support/in_child.hpp"
#include "support/layer_cases.hpp"

namespace {

using namespace test;

/// Row-independent layers over the routers and parts: wide enough for several panels and odd tails.
std::vector<LayerSpec> independent_specs() {
  using R = NaiveRouter;
  std::vector<LayerSpec> specs;
  const auto add = [&](auto change) {
    LayerSpec spec;
    spec.width = 37;
    spec.hidden = 41;
    spec.latent_width = 19;
    spec.naive.ffn = spec.naive.router.experts = spec.outputs = 8;
    spec.naive.router.k = 3;
    spec.seed = specs.size() + 5;
    change(spec, spec.naive, spec.naive.router);
    specs.push_back(spec);
  };
  add([](LayerSpec&, NaiveLayer&, R& r) { r.divide = R::Divide::sum; });
  add([](LayerSpec& s, NaiveLayer& n, R& r) {
    r.score = R::Score::sigmoid, r.divide = R::Divide::sum_plus_eps, r.scale = 2.5, n.glu = false,
    n.act = Act::gelu_erf;
    s.expert_bias = s.router_bias = true, n.shared = 2, n.shared_gate = true;
  });
  add([](LayerSpec& s, NaiveLayer& n, R& r) {
    r.score = R::Score::identity, r.weight = R::Weight::kept_softmax, n.latent = true, s.jitter = 0.1,
    n.act = Act::gelu_tanh;
  });
  add([](LayerSpec&, NaiveLayer& n, R& r) {
    r.score = R::Score::relu, r.select = R::Select::positive, n.output_bias = true, n.shared = 1;
  });
  add([](LayerSpec& s, NaiveLayer&, R& r) { s.outputs = 11, r.divide = R::Divide::sum, r.k = 5; });
  add([](LayerSpec&, NaiveLayer& n, R& r) {
    r.select = R::Select::groups, r.groups = 4, r.kept_groups = 2, r.top_two = true,
    n.act = Act::relu_squared, n.glu = false;
    r.selection_bias.assign(8, 0.1);
  });
  add([](LayerSpec&, NaiveLayer& n, R&) { n.ffn = 5, n.constants = 1, n.copies = 1; });
  add([](LayerSpec& s, NaiveLayer&, R&) { s.named = Named::noisy; });
  add([](LayerSpec& s, NaiveLayer&, R&) { s.named = Named::gshard; });
  add([](LayerSpec& s, NaiveLayer&, R& r) { r.k = 1, s.jitter = 0.01; });  // Switch
  add([](LayerSpec& s, NaiveLayer&, R& r) {
    r.routing = R::Routing::hash, r.hash.assign(2, std::vector<int>(static_cast<std::size_t>(s.vocabulary)));
    for (int v = 0; v < s.vocabulary; ++v) r.hash[0][v] = v % 4, r.hash[1][v] = 4 + v % 3;
  });
  return specs;
}

/// Experts of the block storages: whole groups of 32 and a part of one in both products.
std::vector<LayerSpec> block_specs() {
  using R = NaiveRouter;
  std::vector<LayerSpec> specs;
  for (const Format format : kBlockFormats) {
    for (const bool gated : {true, false}) {
      LayerSpec spec;
      spec.width = gated ? 70 : 33;
      spec.hidden = gated ? 49 : 100;
      spec.expert_bias = spec.router_bias = true;
      spec.naive.format = format;
      spec.naive.glu = gated;
      spec.naive.act = gated ? Act::silu : Act::relu_squared;
      spec.naive.ffn = spec.naive.router.experts = spec.outputs = 8;
      spec.naive.router.k = 3;
      spec.naive.router.divide = R::Divide::sum;
      if (gated) spec.naive.ffn = 6, spec.naive.constants = 1;  // and a zero expert
      spec.seed = specs.size() + 205;
      specs.push_back(spec);
    }
  }
  return specs;
}

template <class Real>
struct Result {
  std::vector<Real> y, dx, dw;
  double losses = 0;
};

/// forward_train and backward with auxiliary coefficient 0 unless asked; y of forward() must be the same.
template <class Real>
Result<Real> run(TestLayer<Real>& layer, Batch<Real>& batch, const std::vector<Real>& dy,
                 AnyExecutor executor, double auxiliary = 0) {
  Result<Real> result;
  moe::Workspace workspace;
  moe::LayerOutput<Real> out(batch.y_view());
  moe::LayerInput<Real> in = batch.input();
  layer.forward_train(in, out, workspace, executor);
  result.losses = out.losses.total();
  result.y = batch.y;
  in.mode = moe::Mode::training;
  layer.forward(in, out, workspace, executor);
  CHECK(std::memcmp(result.y.data(), batch.y.data(), batch.y.size() * sizeof(Real)) == 0);
  result.dx.assign(batch.x.size(), Real(3));
  layer.backward({dy.data(), batch.tokens, batch.width}, {result.dx.data(), batch.tokens, batch.width},
                 auxiliary, workspace, executor);
  layer.visit([&](const std::string&, moe::ParameterView<Real>, moe::ParameterView<Real> g) {
    for (Index i = 0; i < g.size(); ++i) result.dw.push_back(g(i / g.cols, i % g.cols));
  });
  return result;
}

template <class Real>
bool same_bits(const Real* a, const Real* b, std::size_t n) {
  return std::memcmp(a, b, n * sizeof(Real)) == 0;
}

template <class Real>
std::vector<Real> normals(std::size_t n, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  std::vector<Real> values(n);
  for (Real& v : values) v = static_cast<Real>(normal(random));
  return values;
}

/// Copies row `from` of a to row `to` of b: numbers, token id and key.
template <class Real>
void put(const Batch<Real>& a, Index from, Batch<Real>& b, Index to) {
  std::copy_n(a.x.begin() + from * a.width, a.width, b.x.begin() + to * a.width);
  b.token_id[static_cast<std::size_t>(to)] = a.token_id[static_cast<std::size_t>(from)];
  b.row_key[static_cast<std::size_t>(to)] = a.row_key[static_cast<std::size_t>(from)];
}

template <class Real>
void check_rows_alone(const std::vector<LayerSpec>& specs, const std::vector<int>& sizes, int needles) {
  moe::SerialExecutor serial;
  moe::PoolExecutor pool(3);
  std::mt19937_64 random(11);
  for (const LayerSpec& spec : specs) {
    const auto layer = make_layer<Real>(spec);
    REQUIRE(layer->coupling(true) == moe::Coupling::row_independent);
    for (int needle = 0; needle < needles; ++needle) {
      Batch<Real> alone(spec, 1, random);
      const std::vector<Real> dy_row = normals<Real>(static_cast<std::size_t>(spec.width), random);
      const Result<Real> want = run(*layer, alone, dy_row, AnyExecutor(serial));
      for (const int size : sizes) {
        Batch<Real> batch(spec, size, random);
        std::vector<Real> dy = normals<Real>(batch.x.size(), random);
        const Index at = static_cast<Index>(random() % static_cast<std::uint64_t>(size));
        put(alone, 0, batch, at);
        std::copy(dy_row.begin(), dy_row.end(), dy.begin() + at * spec.width);
        const Result<Real> got =
            run(*layer, batch, dy, random() % 2 == 0 ? AnyExecutor(serial) : AnyExecutor(pool));
        INFO("layer of seed " << spec.seed << ", batch of " << size << ", row " << at);
        const std::size_t d = static_cast<std::size_t>(spec.width);
        CHECK(same_bits(got.y.data() + at * spec.width, want.y.data(), d));
        CHECK(same_bits(got.dx.data() + at * spec.width, want.dx.data(), d));
      }
    }
  }
}

template <class Real>
void check_executors(LayerSpec spec, Index tokens) {
  spec.load_balance = 0.5;
  spec.z_loss = 0.1;
  spec.sequence_balance = 0.2;
  std::mt19937_64 random(spec.seed);
  const auto layer = make_layer<Real>(spec);
  Batch<Real> batch(spec, tokens, random);
  batch.offsets = {0, tokens / 3, tokens};
  const std::vector<Real> dy = normals<Real>(batch.x.size(), random);
  moe::SerialExecutor serial;
  const Result<Real> want = run(*layer, batch, dy, AnyExecutor(serial), 0.7);
  const auto check = [&](AnyExecutor executor, const char* name) {
    const Result<Real> got = run(*layer, batch, dy, executor, 0.7);
    INFO("layer of seed " << spec.seed << ", " << name << " of " << executor.concurrency());
    CHECK(same_bits(got.y.data(), want.y.data(), want.y.size()));
    CHECK(same_bits(got.dx.data(), want.dx.data(), want.dx.size()));
    REQUIRE(got.dw.size() == want.dw.size());
    CHECK(same_bits(got.dw.data(), want.dw.data(), want.dw.size()));
    CHECK(std::memcmp(&got.losses, &want.losses, sizeof(double)) == 0);
  };
  check(AnyExecutor(serial), "serial again");
  for (const Index threads : {1, 2, 3, 4, 8}) {
    moe::PoolExecutor pool(threads);
    check(AnyExecutor(pool), "pool");
    moe::OpenMpExecutor openmp(threads);
    check(AnyExecutor(openmp), "OpenMP");
    Eigen::ThreadPool eigen_pool(static_cast<int>(threads));
    moe::EigenExecutor eigen(eigen_pool);
    check(AnyExecutor(eigen), "Eigen's pool");
  }
}

std::vector<LayerSpec> with_coupled() {
  std::vector<LayerSpec> specs = independent_specs();
  LayerSpec choice = specs.front();
  choice.naive.router.routing = NaiveRouter::Routing::expert_choice;
  choice.naive.router.factor = 1.5;
  choice.seed = 90;
  specs.push_back(choice);
  LayerSpec capacity = specs.front();
  capacity.naive.capacity = NaiveLayer::Capacity::best_scores;
  capacity.naive.places = 5;
  capacity.seed = 91;
  specs.push_back(capacity);
  return specs;
}

}  // namespace

TEST_CASE("a row's bits do not depend on the batch it is in, float", "[proof]") {
  check_rows_alone<float>(independent_specs(), {2, 3, 7, 8, 9, 16, 17, 31, 33, 64, 257, 1024}, 3);
}

TEST_CASE("a row's bits do not depend on the batch it is in, double", "[proof]") {
  check_rows_alone<double>(independent_specs(), {2, 3, 7, 8, 9, 16, 17, 31, 33, 64, 257, 1024}, 1);
}

TEST_CASE("a row's bits do not depend on the batch it is in, block storages", "[proof]") {
  check_rows_alone<float>(block_specs(), {2, 3, 7, 8, 9, 16, 17, 31, 33, 64, 257}, 3);
}

TEST_CASE("a row's bits do not depend on the batch it is in, a few", "[smoke]") {
  check_rows_alone<float>(independent_specs(), {2, 9, 33}, 1);
  check_rows_alone<float>(block_specs(), {9, 33}, 1);
}

TEST_CASE("no bit of a layer with any listed part depends on batch, executor or threads", "[proof]") {
  for (const LayerCase& c : layer_cases()) {
    INFO(c.part);
    if (c.spec.naive.capacity == NaiveLayer::Capacity::none) check_rows_alone<float>({c.spec}, {2, 9, 33}, 1);
    check_executors<float>(c.spec, 60);
    if (runs_in<double>(c)) check_executors<double>(c.spec, 30);
  }
}

TEST_CASE("results, gradients and losses do not depend on executor and threads", "[proof]") {
  for (const LayerSpec& spec : with_coupled()) check_executors<float>(spec, 150);
  for (const LayerSpec& spec : block_specs()) check_executors<float>(spec, 90);
  check_executors<double>(with_coupled().front(), 70);
}

TEST_CASE("a child made by fork computes the same bits on the same executors", "[proof]") {
  const LayerSpec spec = independent_specs().front();
  std::mt19937_64 random(spec.seed);
  const auto layer = make_layer<float>(spec);
  Batch<float> batch(spec, 40, random);
  moe::PoolExecutor pool(3);
  moe::OpenMpExecutor openmp(3);
  Eigen::ThreadPool threads(2);
  moe::EigenExecutor eigen(threads);
  const moe::LayerInput<float> in = batch.input();
  const auto results = [&](AnyExecutor executor) {
    moe::Workspace workspace;
    moe::LayerOutput<float> out(batch.y_view());
    layer->forward(in, out, workspace, executor);
    return batch.y;
  };
  for (AnyExecutor executor : {AnyExecutor(pool), AnyExecutor(openmp), AnyExecutor(eigen)}) {
    const std::vector<float> want = results(executor);
    CHECK(in_child([&] { return same_bits(results(executor).data(), want.data(), want.size()); }));
    CHECK(same_bits(results(executor).data(), want.data(), want.size()));
  }
}
