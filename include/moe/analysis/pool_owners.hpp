// Which layer gets which expert of a pool that all of them tried: UniPool-lock, Huang et al. 2605.06665.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/kernel/finite.hpp"

MOE_NAMESPACE_BEGIN

struct PoolOwners {
  Index layers = 0;
  std::vector<Index> owner;  // [N] layer of each expert
  std::vector<double>
      coverage;  // [L] share of the layer's choices that were of experts now its own; 0 of none

  /// [N] what PoolLock and NormScore are told of a layer.
  std::vector<bool> own(Index layer) const {
    std::vector<bool> mask;
    for (const Index l : owner) mask.push_back(l == layer);
    return mask;
  }
};

/// Every layer gets N / L of the N experts, every expert one layer, so that the sum over layers of their
/// coverage is the greatest (exactly; of equal ones some, always the same). `counts` [L, N]: how often a
/// layer chose an expert, of one step or averaged over several. The authors' code asks for a coverage of 0.95
/// in every layer first, and for this where that cannot be had. N^3 steps. Throws config_error unless L
/// divides N, numeric_error for counts below 0 or not finite.
inline PoolOwners pool_owners(const ConstMatrixView<double>& counts) {
  const Index layers = counts.rows, n = counts.cols;
  require_range("layers of a pool", layers, 1, INT32_MAX);
  require_range("experts of a pool", n, 1, INT32_MAX);
  if (n % layers != 0) {
    fail<config_error>("experts of a pool: expected a multiple of its ", layers, " layers, got ", n);
  }
  const auto at = [](Index i) { return static_cast<std::size_t>(i); };
  std::vector<double> share(at(checked_product("counts", layers, n)));
  for (Index l = 0; l < layers; ++l) {
    double sum = 0;
    for (Index e = 0; e < n; ++e) {
      if (!(counts(l, e) >= 0 && is_finite(counts(l, e)))) {
        fail<numeric_error>("counts: expected finite values >= 0, got ", counts(l, e), " for layer ", l,
                            ", expert ", e);
      }
      sum += counts(l, e);
    }
    for (Index e = 0; e < n; ++e) share[at(l * n + e)] = sum > 0 ? counts(l, e) / sum : 0;
  }
  // Shortest augmenting paths: expert after expert finds a place, of which every layer has n / layers.
  const Index each = n / layers;
  std::vector<double> price_of_expert(at(n + 1)), price_of_place(at(n + 1));
  std::vector<Index> expert_in(at(n + 1), -1), before(at(n + 1));  // place n: where the search starts
  for (Index e = 0; e < n; ++e) {
    std::vector<double> least(at(n + 1), std::numeric_limits<double>::infinity());
    std::vector<bool> seen(at(n + 1));
    Index place = n;
    expert_in[at(n)] = e;
    do {
      seen[at(place)] = true;
      const Index own = expert_in[at(place)];
      double step = std::numeric_limits<double>::infinity();
      Index next = -1;
      for (Index p = 0; p < n; ++p) {
        if (seen[at(p)]) continue;
        const double cost = -share[at(p / each * n + own)] - price_of_expert[at(own)] - price_of_place[at(p)];
        if (cost < least[at(p)]) least[at(p)] = cost, before[at(p)] = place;
        if (least[at(p)] < step) step = least[at(p)], next = p;
      }
      for (Index p = 0; p <= n; ++p) {
        if (seen[at(p)]) {
          price_of_expert[at(expert_in[at(p)])] += step;
          price_of_place[at(p)] -= step;
        } else {
          least[at(p)] -= step;
        }
      }
      place = next;
    } while (expert_in[at(place)] >= 0);
    for (; place != n; place = before[at(place)]) expert_in[at(place)] = expert_in[at(before[at(place)])];
  }
  PoolOwners owners{layers, std::vector<Index>(at(n)), std::vector<double>(at(layers))};
  for (Index p = 0; p < n; ++p) {
    owners.owner[at(expert_in[at(p)])] = p / each;
    owners.coverage[at(p / each)] += share[at(p / each * n + expert_in[at(p)])];
  }
  return owners;
}

MOE_NAMESPACE_END
