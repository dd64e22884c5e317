// Which type the weights of a bank are stored in, and which type it computes in.
#pragma once

#include <concepts>

#include "moe/core/types.hpp"
#include "moe/kernel/channel_block.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/kernel/storage_block.hpp"
#include "moe/kernel/super_block.hpp"

MOE_NAMESPACE_BEGIN

/// Stored as the numbers that are computed with.
template <class Storage>
concept DenseStorage = std::same_as<Storage, float> || std::same_as<Storage, double>;

/// Stored in blocks (kernel/storage_block.hpp): BFloat16, Int8Groups, Int4Groups, Int8Channels, Q4K, Q6K.
template <class Storage>
concept BlockStorage = !DenseStorage<Storage> && requires {
  sizeof(StorageBlock<Storage>);
};

/// `Real`: the type of rows, results and gradients of a bank whose weights are stored as `Storage`; at least
/// float. `Element`: what a packed matrix is an array of. `panel_size`: elements of a panel of `rows` rows.
/// `kName`: of a block storage in archives.
template <class Storage>
struct StorageTraits;

template <DenseStorage Storage>
struct StorageTraits<Storage> {
  using Real = Storage;
  using Element = Storage;
  static constexpr Index panel_size(Index rows) noexcept { return rows * kPanel<Storage>; }
};

namespace impl {
template <class Storage>
inline constexpr const char* kStorageName = nullptr;
template <>
inline constexpr const char* kStorageName<float> = "float";
template <>
inline constexpr const char* kStorageName<double> = "double";
template <>
inline constexpr const char* kStorageName<BFloat16> = "bfloat16";
template <>
inline constexpr const char* kStorageName<Int8Groups<BFloat16>> = "int8_groups_bfloat16";
template <>
inline constexpr const char* kStorageName<Int8Groups<Float16>> = "int8_groups_float16";
template <>
inline constexpr const char* kStorageName<Int4Groups<BFloat16>> = "int4_groups_bfloat16";
template <>
inline constexpr const char* kStorageName<Int4Groups<Float16>> = "int4_groups_float16";
template <>
inline constexpr const char* kStorageName<Int8Channels> = "int8_channels";
template <>
inline constexpr const char* kStorageName<Q4K> = "q4_k";
template <>
inline constexpr const char* kStorageName<Q6K> = "q6_k";
}  // namespace impl

template <BlockStorage Storage>
struct StorageTraits<Storage> {
  using Real = float;
  using Element = StorageBlock<Storage>;
  static constexpr const char* kName = impl::kStorageName<Storage>;
  static constexpr Index panel_size(Index rows) noexcept { return panel_blocks<Storage>(rows); }
};

MOE_NAMESPACE_END
