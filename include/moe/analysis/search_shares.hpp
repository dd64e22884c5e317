// How a budget is best spread over the blocks of a model, by a genetic search: the share of rows that each
// works on. FTP's sparsity schedule, Li et al. 2412.11494.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/core/random.hpp"
#include "moe/core/types.hpp"
#include "moe/kernel/finite.hpp"

MOE_NAMESPACE_BEGIN

struct SearchSharesOptions {
  Index blocks = 0;        // B
  double mean = 0.5;       // of the shares, rounded to a multiple of 1 / (B steps)
  Index steps = 10;        // shares are multiples of 1 / steps
  double least = 0;        // of a share, rounded up to such a multiple
  Index population = 16;   // >= 2
  Index generations = 20;  // after the first
  std::uint64_t seed = 0;
};

struct SearchedShares {
  std::vector<double> share;  // [B]
  double loss = 0;
  Index tried = 0;
};

namespace impl {

/// Schedules as whole numbers of steps, of one sum.
class ShareGenes {
 public:
  using Genes = std::vector<Index>;

  explicit ShareGenes(const SearchSharesOptions& o) : options_(o), draw_(o.seed, 0, DrawStream::user) {
    require_range("blocks", o.blocks, 1, INT32_MAX);
    require_range("steps of a share", o.steps, 1, INT32_MAX);
    require_range("population", o.population, 2, INT32_MAX);
    require_range("generations", o.generations, 0, INT32_MAX);
    if (!(o.least >= 0 && o.least <= o.mean && o.mean <= 1)) {
      fail<config_error>("shares: expected 0 <= least <= mean <= 1, got ", o.least, " and ", o.mean);
    }
    least_ = static_cast<Index>(std::ceil(o.least * static_cast<double>(o.steps) - 1e-9));
    sum_ = static_cast<Index>(std::llround(o.mean * static_cast<double>(o.steps * o.blocks)));
    sum_ = (std::max)(sum_, least_ * o.blocks);
  }

  /// As even as the sum allows.
  Genes even() const {
    Genes genes(static_cast<std::size_t>(options_.blocks), sum_ / options_.blocks);
    for (Index b = 0; b < sum_ % options_.blocks; ++b) ++genes[static_cast<std::size_t>(b)];
    return genes;
  }
  /// `moves` steps, each from one block to another, where they have some to give and to take.
  void mutate(Genes& genes, Index moves) {
    for (Index i = 0; i < moves; ++i) {
      Index& from = genes[static_cast<std::size_t>(below(options_.blocks))];
      Index& to = genes[static_cast<std::size_t>(below(options_.blocks))];
      if (from <= least_ || to >= options_.steps) continue;
      --from, ++to;
    }
  }
  /// Every block's number from either, then the sum set right by steps of blocks at random.
  Genes cross(const Genes& a, const Genes& b) {
    Genes child = a;
    Index sum = 0;
    for (std::size_t i = 0; i < child.size(); ++i) {
      if (below(2) == 1) child[i] = b[i];
      sum += child[i];
    }
    while (sum != sum_) {
      Index& gene = child[static_cast<std::size_t>(below(options_.blocks))];
      if (sum < sum_ && gene < options_.steps) ++gene, ++sum;
      if (sum > sum_ && gene > least_) --gene, --sum;
    }
    return child;
  }
  Index below(Index n) noexcept {
    const double u = draw_.uniform(drawn_++, 0);
    return (std::min)(n - 1, static_cast<Index>(u * static_cast<double>(n)));
  }
  std::vector<double> shares(const Genes& genes) const {
    std::vector<double> all;
    for (const Index g : genes) all.push_back(static_cast<double>(g) / static_cast<double>(options_.steps));
    return all;
  }

 private:
  SearchSharesOptions options_;
  KeyedRandom draw_;
  std::uint64_t drawn_ = 0;
  Index least_ = 0;
  Index sum_ = 0;
};

}  // namespace impl

/// The best of the schedules that were tried, by loss(std::span<const double> share [B]), a finite number; of
/// equal ones the first, which is the even one. Every generation keeps its better half and fills up with
/// children of two of them, a step or two moved. All schedules have the same mean. The same seed, the same
/// schedule; population + generations * (population / 2, rounded up) calls of the loss. Throws config_error
/// for options out of their range, numeric_error for a loss that is not finite.
template <class Loss>
SearchedShares search_shares(const SearchSharesOptions& options, Loss&& loss) {
  impl::ShareGenes genes(options);
  struct Tried {
    impl::ShareGenes::Genes genes;
    double loss;
  };
  SearchedShares best;
  std::vector<Tried> all;
  const auto add = [&](impl::ShareGenes::Genes of) {
    const std::vector<double> shares = genes.shares(of);
    const double value = loss(std::span<const double>(shares));
    if (!is_finite(value)) {
      fail<numeric_error>("search shares: expected a finite loss, got ", value, " for schedule ", best.tried);
    }
    ++best.tried;
    all.push_back({std::move(of), value});
  };
  add(genes.even());
  for (Index i = 1; i < options.population; ++i) {
    auto of = genes.even();
    genes.mutate(of, options.blocks * options.steps);
    add(std::move(of));
  }
  const auto sort = [&] {
    std::stable_sort(all.begin(), all.end(), [](const Tried& a, const Tried& b) { return a.loss < b.loss; });
  };
  for (Index g = 0; g < options.generations; ++g) {
    sort();
    const Index kept = options.population / 2;
    all.resize(static_cast<std::size_t>(kept));
    for (Index i = kept; i < options.population; ++i) {
      auto child = genes.cross(all[static_cast<std::size_t>(genes.below(kept))].genes,
                               all[static_cast<std::size_t>(genes.below(kept))].genes);
      genes.mutate(child, 1 + genes.below(2));
      add(std::move(child));
    }
  }
  sort();
  best.share = genes.shares(all.front().genes);
  best.loss = all.front().loss;
  return best;
}

MOE_NAMESPACE_END
