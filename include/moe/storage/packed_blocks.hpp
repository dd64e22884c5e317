// Matrices of a block storage, from and to published row-major numbers.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/kernel/storage_block.hpp"
#include "moe/storage/packed_matrix.hpp"

MOE_NAMESPACE_BEGIN

/// The largest magnitude that a storage takes: beyond it a number or a scale would round to infinity, or a
/// group's dot product times a scale of bf16 might overflow (kernel/block_tile.hpp).
template <BlockStorage Storage>
inline constexpr double kLargestWeight = 0x1.fep127;
template <>
inline constexpr double kLargestWeight<Int8Groups<BFloat16>> = 0x1p115;
template <>
inline constexpr double kLargestWeight<Int4Groups<BFloat16>> = 0x1p115;
template <>
inline constexpr double kLargestWeight<Int8Channels> = 0x1p100;  // 2^31 of them times 127
template <>
inline constexpr double kLargestWeight<Q4K> = 63.0 * 65504;
template <>
inline constexpr double kLargestWeight<Q6K> = 32.0 * 127 * 65504;
template <>
inline constexpr double kLargestWeight<Int8Groups<Float16>> = 127.0 * 65504;
template <>
inline constexpr double kLargestWeight<Int4Groups<Float16>> = 7.0 * 65504;

/// Throws numeric_error naming the argument and the place of a number that is not finite or too large.
template <BlockStorage Storage>
void require_roundable(const char* argument, const ConstMatrixView<float>& matrix) {
  for (Index o = 0; o < matrix.rows; ++o) {
    for (Index i = 0; i < matrix.cols; ++i) {
      const double w = static_cast<double>(matrix(o, i));
      if (!(std::abs(w) <= kLargestWeight<Storage>)) {
        fail<numeric_error>(argument, ": expected numbers of magnitude up to ", kLargestWeight<Storage>,
                            " to round, got ", w, " in row ", o, ", column ", i);
      }
    }
  }
}

/// Rounds float columns into panel j of `packed`. column(position) -> const float*: the K numbers of the
/// column at `position` in panel order, contiguous and finite, or null for zeros. Each column is rounded by
/// itself.
template <BlockStorage Storage, class Column>
void pack_panel(const PackedView<Storage>& packed, Index j, Column column) noexcept {
  constexpr Index kColumns = kPanel<float>;
  alignas(64) float values[kBlockRows * kColumns];
  const float* source[kColumns];
  for (Index c = 0; c < kColumns; ++c) source[c] = column(j * kColumns + c);
  StorageBlock<Storage>* block = packed.panel(j);
  for (Index k = 0; k < packed.rows; k += kBlockRows, ++block) {
    const Index count = (std::min)(kBlockRows, packed.rows - k);
    for (Index c = 0; c < kColumns; ++c) {
      for (Index i = 0; i < kBlockRows; ++i) {
        values[i * kColumns + c] = i < count && source[c] != nullptr ? source[c][k + i] : 0.0f;
      }
    }
    encode_block(values, *block);
  }
}

/// The same of storages that have more than kBlockRows of a column under a scale.
template <BlockStorage Storage, class Column>
requires(SuperStorage<Storage> ||
         std::same_as<Storage, Int8Channels>) void pack_panel(const PackedView<Storage>& packed, Index j,
                                                              Column column) noexcept {
  const float* source[kPanel<float>];
  for (Index c = 0; c < kPanel<float>; ++c) source[c] = column(j * kPanel<float> + c);
  encode_panel(source, packed.rows, packed.panel(j));
}

/// All panels.
template <BlockStorage Storage, class Column>
void pack_blocks(const PackedView<Storage>& packed, Column column) noexcept {
  for (Index j = 0; j < packed.panels; ++j) pack_panel(packed, j, column);
}

/// Block storages of codes with scales: Int8Groups and Int4Groups one for every kBlockRows of a column,
/// Int8Channels one a column.
template <class Storage>
concept GroupStorage = BlockStorage<Storage> && requires(const StorageBlock<Storage>& block) {
  block.scale(Index{});
};
template <GroupStorage Storage>
using GroupScale = decltype(std::declval<const StorageBlock<Storage>&>().scale(Index{}));

/// A matrix [out, in] of numbers in super-blocks: read(o, block, column) fills in those of row o from input
/// kSuperRows * block on.
template <class G>
concept SuperGroups = requires(const G& groups, Index i, SuperColumn& column) {
  { groups.read(i, i, column) }
  noexcept;
};

/// A matrix [out, in] that a storage can hold as it is: SuperGroups, or numbers code(o, i) * scale(o, i /
/// kBlockRows); of Int8Channels the scale is asked for group 0.
template <class G, class Storage>
concept StorageGroups = (SuperStorage<Storage> && SuperGroups<G>) ||
                        (GroupStorage<Storage> && requires(const G& groups, Index o, Index i) {
                          { groups.code(o, i) }
                          noexcept->std::same_as<int>;
                          { groups.scale(o, i) }
                          noexcept->std::same_as<GroupScale<Storage>>;
                        });

/// Row o of `groups`; none where that is null.
template <class Groups>
struct GroupRow {
  const Groups* groups;
  Index o;
};

/// Copies codes and scales without rounding. row(position) -> GroupRow: what the column at `position` in
/// panel order holds; none: zeros.
template <GroupStorage Storage, class Row>
void pack_groups(const PackedView<Storage>& packed, Row row) noexcept {
  for (Index j = 0; j < packed.panels; ++j) {
    StorageBlock<Storage>* block = packed.panel(j);
    for (Index k = 0; k < packed.rows; k += kBlockRows, ++block) {
      for (Index c = 0; c < kPanel<float>; ++c) {
        const auto from = row(j * kPanel<float> + c);
        const bool any = from.groups != nullptr;
        block->set_scale(c, any ? from.groups->scale(from.o, k / kBlockRows) : GroupScale<Storage>{});
        for (Index i = 0; i < kBlockRows; ++i) {
          block->set_code(i, c, any && k + i < packed.rows ? from.groups->code(from.o, k + i) : 0);
        }
      }
    }
  }
}

template <class Row>
void pack_groups(const PackedView<Int8Channels>& packed, Row row) noexcept {
  for (Index position = 0; position < packed.panels * kPanel<float>; ++position) {
    const auto from = row(position);
    const Index c = position % kPanel<float>;
    StorageBlock<Int8Channels>* const panel = packed.panel(position / kPanel<float>);
    panel->set_scale(c, from.groups == nullptr ? 0.0f : from.groups->scale(from.o, 0));
    for (Index k = 0; k < round_up(packed.rows, kBlockRows); ++k) {
      panel[1 + k / 4].set_code(k % 4, c,
                                from.groups != nullptr && k < packed.rows ? from.groups->code(from.o, k) : 0);
    }
  }
}

template <SuperStorage Storage, class Row>
void pack_groups(const PackedView<Storage>& packed, Row row) noexcept {
  SuperColumn column;
  for (Index position = 0; position < packed.panels * kPanel<float>; ++position) {
    const auto from = row(position);
    for (Index k = 0; k < packed.rows; k += kSuperRows) {
      column = {};
      if (from.groups != nullptr) from.groups->read(from.o, k / kSuperRows, column);
      packed.panel(position / kPanel<float>)[k / kSuperRows].set_column(position % kPanel<float>, column);
    }
  }
}

/// The inverse, of the rounded numbers exactly. column(position) -> float*: where the K numbers of that
/// column go, or null.
template <BlockStorage Storage, class Column>
void unpack_blocks(const PackedView<const Storage>& packed, Column column) noexcept {
  constexpr Index kColumns = kPanel<float>;
  alignas(64) float values[kBlockRows * kColumns];
  for (Index j = 0; j < packed.panels; ++j) {
    for (Index k = 0; k < packed.rows; k += kBlockRows) {
      decode_rows(packed.panel(j), k / kBlockRows, values);
      const Index count = (std::min)(kBlockRows, packed.rows - k);
      for (Index c = 0; c < kColumns; ++c) {
        float* const to = column(j * kColumns + c);
        for (Index i = 0; to != nullptr && i < count; ++i) to[k + i] = values[i * kColumns + c];
      }
    }
  }
}

MOE_NAMESPACE_END
