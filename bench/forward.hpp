// Whole layers forward:
//   forward/<storage>/<shape>/tokens:<T>/threads:<N>[/skew:<zipf|same>]
// With a skew, uniform and skewed calls take turns and only the skewed ones are timed; the counter of_uniform
// is the throughput of the skewed calls over that of the uniform ones, at the same number of pairs.
#pragma once

#include <array>
#include <cstring>

#include "problem.hpp"

namespace bench {

/// The calls of one cell, prepared.
template <class Storage>
class ForwardCalls {
  using P = Problem<Storage>;
  using Real = typename P::Real;

 public:
  ForwardCalls(const Shape& shape, Index tokens, Index threads)
      : problem_(problem<Storage>(shape)),
        inputs_(batches<Real>(rotation(*problem_, tokens), tokens, shape.D)),
        y_(inputs_->front().size()),
        pool_(threads),
        out_(moe::MatrixView<Real>(y_.data(), tokens, shape.D)) {}

  void run(std::size_t call, const std::vector<Real>& mask) {
    problem_->layer(call).forward(input(call, mask), out_, workspace_, pool_);
  }

  /// Of each call until they repeat.
  std::vector<Cost> costs(const std::vector<Real>& mask) {
    std::vector<Cost> all;
    for (std::size_t call = 0; call < inputs_->size(); ++call) {
      all.push_back(problem_->cost(Routing<Real>(problem_->layer(call).router(), input(call, mask))));
    }
    return all;
  }

  /// Runs call 0 and says what is wrong with its result.
  std::string verify(const std::vector<Real>& mask) {
    const auto in = input(0, mask);
    typename P::Layer& layer = problem_->layer(0);
    const Routing<Real> routing(layer.router(), in);
    run(0, mask);
    return problem_->check(layer, in.x, out_.y, routing.table());
  }

 private:
  moe::LayerInput<Real> input(std::size_t call, const std::vector<Real>& mask) const {
    const Shape& shape = problem_->shape();
    moe::LayerInput<Real> in(
        moe::ConstMatrixView<Real>((*inputs_)[call % inputs_->size()].data(), out_.y.rows, shape.D));
    if (!mask.empty()) in.logit_mask = moe::ConstMatrixView<Real>(mask.data(), 1, shape.E);
    return in;
  }

  std::shared_ptr<P> problem_;
  std::shared_ptr<Batches<Real>> inputs_;
  std::vector<Real> y_;
  moe::PoolExecutor pool_;
  moe::Workspace workspace_;
  moe::LayerOutput<Real> out_;
};

template <class Storage>
void forward(benchmark::State& state, const std::string& name, const Shape& shape, Index tokens,
             Index threads, Skew skew) {
  using Real = typename Problem<Storage>::Real;
  ForwardCalls<Storage> calls(shape, tokens, threads);
  const std::vector<Real> none, mask = skew == Skew::uniform ? none : skew_mask<Real>(skew, shape);
  if (to_verify(name)) {
    const std::string difference = calls.verify(mask);
    if (!difference.empty()) return state.SkipWithError(difference.c_str());
  } else {
    calls.run(0, mask);  // the workspace grows
  }
  const std::vector<Cost> costs = calls.costs(mask);
  const LimitsBeside limits(StorageInfo<Storage>::kInstruction, threads);
  Cost total;
  std::size_t call = 0;
  if (skew == Skew::uniform) {
    const auto start = std::chrono::steady_clock::now();
    for (auto _ : state) {
      calls.run(call, mask);
      benchmark::ClobberMemory();
      total += costs[call++ % costs.size()];
    }
    const double seconds = seconds_since(start);
    return report(state, total, seconds, limits.mean());
  }
  const auto timed = [&](const std::vector<Real>& logits) {
    const auto start = std::chrono::steady_clock::now();
    calls.run(call, logits);
    benchmark::ClobberMemory();
    return seconds_since(start);
  };
  double uniform = 0, skewed = 0;
  for (auto _ : state) {
    uniform += timed(none);
    const double seconds = timed(mask);
    skewed += seconds;
    state.SetIterationTime(seconds);
    total += costs[call++ % costs.size()];
  }
  report(state, total, skewed, limits.mean());
  state.counters["of_uniform"] = uniform / skewed;
}

template <class Storage>
void add_forward_cells(const Suite& suite) {
  for (const Shape& shape : suite.shapes) {
    for (const Index tokens : suite.tokens) {
      for (const Index threads : {1, 2}) {
        const std::string cell =
            std::string("forward/") + StorageInfo<Storage>::kName + "/" + cell_name(shape, tokens, threads);
        for (const Skew skew : {Skew::uniform, Skew::zipf, Skew::same}) {
          const bool uniform = skew == Skew::uniform;
          if (!uniform && tokens < 64) continue;
          const std::string name = uniform ? cell : cell + "/skew:" + name_of(skew);
          add(
              name,
              [=](benchmark::State& state) { forward<Storage>(state, name, shape, tokens, threads, skew); },
              uniform ? Timing::real : Timing::manual);
        }
      }
    }
  }
}

}  // namespace bench
