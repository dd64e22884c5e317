// AdamW (Loshchilov and Hutter, 1711.05101) with clipping of the global gradient norm. It works element by
// element on flat ranges, so it needs to know nothing about how the library packs its weights.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <deque>
#include <vector>

#include "moe/executor/pool.hpp"

namespace example {

using moe::Index;

class AdamW {
 public:
  struct Options {
    float beta1 = 0.9f;
    float beta2 = 0.99f;
    float epsilon = 1e-8f;
    float decay = 0.1f;
    float most = 1.0f;  // norm of all gradients together
  };

  AdamW(Options options, moe::PoolExecutor& pool) : options_(options), pool_(&pool) {}

  /// A range to train; both pointers must stay.
  void add(float* value, float* gradient, Index n) {
    moments_.emplace_back(Eigen::ArrayX2f::Zero(n, 2));
    for (Index first = 0; first < n; first += kChunk) {
      chunks_.push_back({value + first, gradient + first, moments_.back().data() + first,
                         moments_.back().data() + n + first, std::min(kChunk, n - first)});
    }
  }

  Index parameters() const {
    Index n = 0;
    for (const Chunk& chunk : chunks_) n += chunk.n;
    return n;
  }

  /// One step with learning rate `rate`; the gradients are 0 afterwards. Chunks are fixed and their norms are
  /// added in order, so the result does not depend on the number of threads.
  void step(float rate) {
    ++steps_;
    std::vector<double> square(chunks_.size());
    each([&](const Chunk& c, Index i) noexcept {
      square[static_cast<std::size_t>(i)] = double{Values(c.gradient, c.n).square().sum()};
    });
    double sum = 0;
    for (const double s : square) sum += s;
    const float clip = std::min(1.0f, options_.most / (static_cast<float>(std::sqrt(sum)) + 1e-12f));
    const float unbias1 = 1 - std::pow(options_.beta1, steps_),
                unbias2 = 1 - std::pow(options_.beta2, steps_);
    each([&](const Chunk& c, Index) noexcept {
      Values w(c.value, c.n), g(c.gradient, c.n), m(c.first, c.n), v(c.second, c.n);
      m = options_.beta1 * m + (1 - options_.beta1) * clip * g;
      v = options_.beta2 * v + (1 - options_.beta2) * (clip * g).square();
      w -= rate * (m / unbias1 / ((v / unbias2).sqrt() + options_.epsilon) + options_.decay * w);
      g = 0;
    });
  }

 private:
  using Values = Eigen::Map<Eigen::ArrayXf>;
  struct Chunk {
    float* value;
    float* gradient;
    float* first;   // mean of the gradient
    float* second;  // mean of its square
    Index n;
  };
  static constexpr Index kChunk = 8192;  // 5 x 32 KiB: a worker's share at once

  template <class F>
  void each(F&& f) {
    pool_->parallel_for(static_cast<Index>(chunks_.size()),
                        [&](Index i, Index) noexcept { f(chunks_[static_cast<std::size_t>(i)], i); });
  }

  Options options_;
  moe::PoolExecutor* pool_;
  std::vector<Chunk> chunks_;
  std::deque<Eigen::ArrayX2f> moments_;  // a deque, so that they stay where they are
  float steps_ = 0;
};

}  // namespace example
