// Hash tables that know which vocabulary ids are alike: the clustered and the dispersed hash of Roller et
// al., "Hash layers for large sparse models", 2106.04426, which both fall behind the balanced one there.
#pragma once

#include <algorithm>
#include <cstdint>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/random.hpp"
#include "moe/core/view.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/hash_table.hpp"

MOE_NAMESPACE_BEGIN

struct HashClusterOptions {
  Index clusters = 0;
  Index iterations = 50;  // at most: ended when no row changes its cluster
  std::uint64_t seed = 0;
};

/// The cluster of every row by Lloyd's k-means: the first centres are rows drawn by the seed, a row belongs
/// to the nearest (ties: the lower), a cluster that loses all its rows keeps its centre. Sums in double, rows
/// in order. Throws config_error for clusters outside [1, rows] or iterations below 1, numeric_error for rows
/// that are not finite.
template <class Real>
Buffer<ExpertId> k_means(const ConstMatrixView<Real>& rows, const HashClusterOptions& options) {
  require_range("clusters", options.clusters, 1, rows.rows);
  require_range("iterations", options.iterations, 1, INT32_MAX);
  for (Index r = 0; r < rows.rows; ++r) {
    if (!all_finite(rows.row(r), rows.cols)) fail<numeric_error>("rows: expected finite values in row ", r);
  }
  const KeyedRandom draw(options.seed, 2, DrawStream::initialise);
  Buffer<Index> order(rows.rows);
  for (Index r = 0; r < rows.rows; ++r) order[r] = r;
  std::sort(order.begin(), order.end(), [&draw](Index a, Index b) {
    const std::uint64_t of_a = draw.bits(static_cast<std::uint64_t>(a), 0);
    const std::uint64_t of_b = draw.bits(static_cast<std::uint64_t>(b), 0);
    return of_a != of_b ? of_a < of_b : a < b;
  });
  Buffer<double> centre(checked_product("centres", options.clusters, rows.cols));
  for (Index c = 0; c < options.clusters; ++c) {
    for (Index j = 0; j < rows.cols; ++j) centre[c * rows.cols + j] = static_cast<double>(rows(order[c], j));
  }
  const auto distance = [&](Index r, Index c) {
    double squares = 0;
    for (Index j = 0; j < rows.cols; ++j) {
      const double d = static_cast<double>(rows(r, j)) - centre[c * rows.cols + j];
      squares += d * d;
    }
    return squares;
  };
  Buffer<ExpertId> cluster;
  cluster.assign(rows.rows, -1);
  Buffer<double> sum(centre.size());
  Buffer<Index> size(options.clusters);
  for (Index i = 0; i < options.iterations; ++i) {
    bool moved = false;
    sum.fill(0);
    size.fill(0);
    for (Index r = 0; r < rows.rows; ++r) {
      Index nearest = 0;
      double least = distance(r, 0);
      for (Index c = 1; c < options.clusters; ++c) {
        const double d = distance(r, c);
        if (d < least) least = d, nearest = c;
      }
      moved = moved || cluster[r] != nearest;
      cluster[r] = static_cast<ExpertId>(nearest);
      ++size[nearest];
      for (Index j = 0; j < rows.cols; ++j) sum[nearest * rows.cols + j] += static_cast<double>(rows(r, j));
    }
    if (!moved) break;
    for (Index c = 0; c < options.clusters; ++c) {
      for (Index j = 0; size[c] > 0 && j < rows.cols; ++j)
        centre[c * rows.cols + j] = sum[c * rows.cols + j] / static_cast<double>(size[c]);
    }
  }
  return cluster;
}

/// Ids with like embeddings [V, D] share an expert: one cluster for each. Throws as k_means.
template <class Real>
HashTable clustered_hash(const ConstMatrixView<Real>& embeddings, Index experts, Index iterations = 50,
                         std::uint64_t seed = 0) {
  const Buffer<ExpertId> cluster =
      k_means(embeddings, {.clusters = experts, .iterations = iterations, .seed = seed});
  return HashTable::own({cluster.data(), static_cast<std::size_t>(cluster.size())}, embeddings.rows, experts);
}

/// Ids with like embeddings are kept apart: the ids of every cluster, ascending, go to the experts in turn,
/// which goes on from cluster to cluster, so that experts have as many ids, or one more. Throws as k_means,
/// and config_error for less than one expert.
template <class Real>
HashTable dispersed_hash(const ConstMatrixView<Real>& embeddings, Index experts,
                         const HashClusterOptions& options) {
  require_range("experts", experts, 1, INT32_MAX);
  const Buffer<ExpertId> cluster = k_means(embeddings, options);
  Buffer<ExpertId> expert(cluster.size());
  Index next = 0;
  for (Index c = 0; c < options.clusters; ++c) {
    for (Index v = 0; v < cluster.size(); ++v) {
      if (Index{cluster[v]} == c) expert[v] = static_cast<ExpertId>(next++ % experts);
    }
  }
  return HashTable::own({expert.data(), static_cast<std::size_t>(expert.size())}, embeddings.rows, experts);
}

MOE_NAMESPACE_END
