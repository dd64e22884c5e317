// No allocation in forward() once workspace and statistics have grown, on any executor.
#define EIGEN_USE_THREADS
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <unsupported/Eigen/CXX11/ThreadPool>
#include <vector>

#include "moe/executor/any.hpp"
#include "moe/executor/eigen.hpp"
#include "moe/executor/openmp.hpp"
#include "moe/executor/pool.hpp"
#include "moe/expert/bank/function.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/train/adamw.hpp"
#include "moe/train/gradients.hpp"
#include "support/catch.hpp"
#include "support/counted_malloc.hpp"
#include "support/observable_archetype.hpp"
#include "support/random_spec.hpp"
#include "train/plain_model.hpp"

namespace {

using namespace test;

/// The batch's input with ids and offsets of other types, which it has converted into memory of its own.
moe::LayerInput<float> converted(const Batch<float>& batch) {
  moe::LayerInput<float> in = batch.input();
  in.token_id = std::vector<std::int64_t>(batch.token_id.begin(), batch.token_id.end());
  const std::vector<int> offsets(batch.offsets.begin(), batch.offsets.end());
  if (!offsets.empty()) in.segments = moe::Segments(offsets);
  return in;
}

/// Every executor there is.
struct Executors {
  moe::SerialExecutor serial;
  moe::PoolExecutor pool{3};
  moe::OpenMpExecutor openmp{3};
  Eigen::ThreadPool threads{2};
  moe::EigenExecutor<Eigen::ThreadPool> eigen{threads};
  moe::AnyExecutor any{pool};

  template <class F>
  void each(const F& f) {
    f("serial", serial);
    f("pool", pool);
    f("openmp", openmp);
    f("eigen", eigen);
    f("any", any);
  }
};

}  // namespace

TEST_CASE("the counter counts", "[proof]") {
  if (MOE_TEST_COUNTS_MALLOC == 0) return;
  void* volatile taken = nullptr;  // or the compiler sees that nothing is done with it
  CHECK(allocations_of([&] { taken = std::malloc(3), std::free(taken); }) >= 1);
  CHECK(allocations_of([&] { taken = std::calloc(3, 5), std::free(taken); }) >= 1);
  CHECK(allocations_of([] { moe::Buffer<float> b(1000); }) >= 1);
  CHECK(allocations_of([] {}) == 0);
}

TEST_CASE("executors allocate nothing after the first call", "[proof]") {
  Executors executors;
  executors.each([](const char* name, auto& executor) {
    CAPTURE(name);
    std::atomic<Index> sum{0};
    const auto add = [&sum](Index i, Index) noexcept { sum += i; };
    executor.parallel_for(100, add);
    executor.parallel_for(100, [&](Index, Index) noexcept { executor.parallel_for(3, add); });
    sum = 0;
    CHECK(allocations_of([&] {
            for (Index round = 0; round < 50; ++round) {
              for (const Index n : {0, 1, 2, 3, 100}) executor.parallel_for(n, add);
            }
            executor.parallel_for(100, [&](Index, Index) noexcept { executor.parallel_for(3, add); });
          }) == 0);
    CHECK(sum == 50 * (1 + 3 + 4950) + 100 * 3);
  });
}

TEST_CASE("forward allocates nothing after warm-up", "[proof]") {
  Executors executors;
  std::map<Format, int> layers;
  for (std::uint64_t seed = 0; seed < 120; ++seed) {
    Draw draw(seed + 4321);
    const LayerSpec spec = random_spec(draw, true);
    const auto layer = make_layer<float>(spec);
    Batch<float> large = random_batch<float>(draw, spec, 33), small = random_batch<float>(draw, spec, 5);
    moe::RouteStats stats;
    moe::Workspace workspace;
    moe::LayerOutput<float> out(large.y_view(), &stats), small_out(small.y_view(), &stats);
    const moe::LayerInput<float> in = converted(large), small_in = small.input();
    executors.each([&](const char* name, auto& of_kind) {
      test::AnyExecutor executor(of_kind);
      layer->forward(in, out, workspace, executor);
      const long counted = allocations_of([&] {
        layer->forward(in, out, workspace, executor);
        layer->forward(small_in, small_out, workspace, executor);
      });
      INFO("configuration " << seed << ", executor " << name);
      CHECK(counted == 0);
    });
    ++layers[spec.naive.format];
  }
  CHECK(layers[Format::dense] >= 5);
  for (const Format format : kBlockFormats) CHECK(layers[format] >= 3);
}

TEST_CASE("an observed forward of experts as a function allocates nothing after warm-up", "[proof]") {
  struct Counter final : moe::Observer<double> {
    Index rows = 0;
    void see(const moe::CallView<double>& call) override { rows += call.logit.rows; }
  };
  auto experts = moe::function_experts<double>(
      {.experts = 3, .width = 6}, [](Index, moe::ConstMatrixView<double> x, moe::MatrixView<double> z) {
        for (Index t = 0; t < x.rows; ++t) {
          for (Index j = 0; j < x.cols; ++j) z(t, j) = 2 * x(t, j);
        }
      });
  const moe::MoeLayer layer(test::ObservableArchetype(3), std::move(experts));
  double x[17 * 6] = {1, 2, 3}, y[17 * 6];
  Counter counter;
  moe::LayerOutput<double> out(moe::MatrixView<double>(y, 17, 6)), few(moe::MatrixView<double>(y, 4, 6));
  out.observer = few.observer = &counter;
  moe::Workspace workspace;
  moe::PoolExecutor pool(2);
  layer.forward(moe::ConstMatrixView<double>(x, 17, 6), out, workspace, pool);
  CHECK(allocations_of([&] {
          layer.forward(moe::ConstMatrixView<double>(x, 17, 6), out, workspace, pool);
          layer.forward(moe::ConstMatrixView<double>(x, 4, 6), few, workspace, pool);
        }) == 0);
  CHECK(counter.rows == 17 + 17 + 4);
}

TEST_CASE("clipping allocates nothing, and an optimiser only in its first step", "[proof]") {
  test::PlainModel<float> model = test::plain_model<float>();
  moe::AdamW<float> optimiser;
  moe::PoolExecutor pool(3);
  model.draw_gradients(1);
  CHECK(allocations_of([&] { moe::clip_by_global_norm(model, 1, pool); }) == 0);
  optimiser.step(model, 0.1, pool);
  model.draw_gradients(2);
  CHECK(allocations_of([&] {
          moe::scale_gradients(model, 0.5, pool);
          moe::clip_by_global_norm(model, 1, pool);
          optimiser.step(model, 0.1, pool);
        }) == 0);
}
