// What a user would otherwise write: a loop over experts that gathers an expert's rows, multiplies with a
// library's products, and sums the results by token. The loop is the same for every library, and as good as
// one can be: experts' rows found once, buffers kept, both ways of using threads tried.
#pragma once

#include <Eigen/Core>
#include <numeric>

#include "moe/executor/openmp.hpp"
#include "problem.hpp"

namespace bench {

/// Library: Library(shape), add(ExpertWeights) for every expert, and, from any worker (counted from 0),
///   gate_up(e, x [m, D], m, out [m, 2F], worker)     gate | up side by side
///   down(e, h [m, F], m, z [m, D], worker)
///   set_threads(n) of its own for one product.
template <class Library>
class PeerLoop {
 public:
  /// The threads work inside each product, or each on products of its own.
  enum class Threads { inside, over_experts };

  template <class Problem>
  PeerLoop(Problem& p, typename Problem::Layer& layer) : shape_(p.shape()), library_(p.shape()) {
    for (Index e = 0; e < shape_.E; ++e) library_.add(Problem::weights(layer, e));
  }

  void forward(const float* x, const moe::RouteTable<float>& routes, float* y, Index threads, Threads how) {
    find_rows(routes);
    const bool over = how == Threads::over_experts;
    library_.set_threads(over ? 1 : threads);
    const moe::OpenMpExecutor all(threads);
    const auto run = [&](Index e, Index worker, auto rest) noexcept {
      const Index first = offsets_[static_cast<std::size_t>(e)];
      const Index m = offsets_[static_cast<std::size_t>(e) + 1] - first;
      if (m > 0) run_expert(e, x, first, m, worker, rest);
    };
    if (over) {
      all.parallel_for(shape_.E,
                       [&](Index e, Index worker) noexcept { run(e, worker, moe::SerialExecutor{}); });
    } else {
      for (Index e = 0; e < shape_.E; ++e) run(e, 0, all);
    }
    all.parallel_for(moe::ceil_div(routes.tokens, kTokens), [&](Index block, Index) noexcept {
      const Index end = std::min(routes.tokens, (block + 1) * kTokens);
      for (Index t = block * kTokens; t < end; ++t) {
        Vector sum(y + t * shape_.D, shape_.D);
        sum.setZero();
        for (Index p = routes.offsets[t]; p < routes.offsets[t + 1]; ++p) {
          sum += routes.weight[p] *
                 ConstVector(z_.data() + slot_[static_cast<std::size_t>(p)] * shape_.D, shape_.D);
        }
      }
    });
  }

 private:
  using Vector = Eigen::Map<Eigen::ArrayXf>;
  using ConstVector = Eigen::Map<const Eigen::ArrayXf>;
  static constexpr Index kTokens = 16;  // rows of a task of what is no product

  static void at_least(std::vector<float>& buffer, Index n) {
    if (static_cast<Index>(buffer.size()) < n) buffer.resize(static_cast<std::size_t>(n));
  }

  /// A counting sort of the pairs by expert.
  void find_rows(const moe::RouteTable<float>& routes) {
    offsets_.assign(static_cast<std::size_t>(shape_.E) + 1, 0);
    for (Index p = 0; p < routes.pairs(); ++p) ++offsets_[static_cast<std::size_t>(routes.expert[p]) + 1];
    std::partial_sum(offsets_.begin(), offsets_.end(), offsets_.begin());
    std::vector<Index> next(offsets_.begin(), offsets_.end());
    slot_.resize(static_cast<std::size_t>(routes.pairs()));
    token_.resize(slot_.size());
    for (Index t = 0; t < routes.tokens; ++t) {
      for (Index p = routes.offsets[t]; p < routes.offsets[t + 1]; ++p) {
        const Index slot = next[static_cast<std::size_t>(routes.expert[p])]++;
        slot_[static_cast<std::size_t>(p)] = slot;
        token_[static_cast<std::size_t>(slot)] = t;
      }
    }
    const Index pairs = routes.pairs();
    at_least(rows_, pairs * shape_.D);
    at_least(pre_, pairs * 2 * shape_.F);
    at_least(hidden_, pairs * shape_.F);
    at_least(z_, pairs * shape_.D);
  }

  template <class Executor>
  void run_expert(Index e, const float* x, Index first, Index m, Index worker, Executor& rest) noexcept {
    const Index D = shape_.D, F = shape_.F, blocks = moe::ceil_div(m, kTokens);
    float* const rows = rows_.data() + first * D;
    float* const pre = pre_.data() + first * 2 * F;
    float* const hidden = hidden_.data() + first * F;
    rest.parallel_for(blocks, [&](Index block, Index) noexcept {
      for (Index i = block * kTokens; i < std::min(m, (block + 1) * kTokens); ++i) {
        std::copy_n(x + token_[static_cast<std::size_t>(first + i)] * D, D, rows + i * D);
      }
    });
    library_.gate_up(e, rows, m, pre, worker);
    rest.parallel_for(blocks, [&](Index block, Index) noexcept {
      for (Index i = block * kTokens; i < std::min(m, (block + 1) * kTokens); ++i) {
        const ConstVector gate(pre + i * 2 * F, F), up(pre + i * 2 * F + F, F);
        Vector(hidden + i * F, F) = gate / (1 + (-gate).exp()) * up;
      }
    });
    library_.down(e, hidden, m, z_.data() + first * D, worker);
  }

  Shape shape_;
  Library library_;
  std::vector<Index> offsets_, slot_, token_;   // [E + 1], [P] by pair, [P] by slot
  std::vector<float> rows_, pre_, hidden_, z_;  // [P, D], [P, 2F], [P, F], [P, D]
};

}  // namespace bench
