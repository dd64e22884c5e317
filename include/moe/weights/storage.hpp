// Which type the weights of a bank are stored in, and which type it computes in.
#pragma once

#include <concepts>

#include "moe/core/types.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/kernel/weight_block.hpp"

MOE_NAMESPACE_BEGIN

/// Stored as the numbers that are computed with.
template <class Storage>
concept DenseStorage = std::same_as<Storage, float> || std::same_as<Storage, double>;

/// Stored in blocks of 32 rows x 32 columns (kernel/weight_block.hpp): BFloat16, Int8Groups, Int4Groups.
template <class Storage>
concept BlockStorage = !DenseStorage<Storage> && requires {
  sizeof(WeightBlock<Storage>);
};

/// `Real`: the type of rows, results and gradients of a bank whose weights are stored as `Storage`; at least
/// float. `Element`: what a packed matrix is an array of. `panel_size`: elements of a panel of `rows` rows.
template <class Storage>
struct StorageTraits;

template <DenseStorage Storage>
struct StorageTraits<Storage> {
  using Real = Storage;
  using Element = Storage;
  static constexpr Index panel_size(Index rows) noexcept { return rows * kPanel<Storage>; }
};

template <BlockStorage Storage>
struct StorageTraits<Storage> {
  using Real = float;
  using Element = WeightBlock<Storage>;
  static constexpr Index panel_size(Index rows) noexcept { return ceil_div(rows, kBlockRows); }
};

MOE_NAMESPACE_END
