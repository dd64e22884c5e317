// Weight matrices as the kernels read them: column panels, and the way to and from published row-major
// layouts.
//
// A logical matrix W[K][N] (K is the summed index of y = x W) is stored as panels of kPanel<T> columns, each
// [K][kPanel] contiguous and aligned to 64 bytes. In a *plain* matrix column n is column n % kPanel of panel
// n / kPanel. A *paired* matrix holds two matrices [K][F], gate and up of a gated unit: panel j is
// [K][gate columns j*kHalf .. | up columns j*kHalf ..], so that one tile of the product has both numbers of
// its hidden columns. Columns are counted in *panel order*, position = panel * kPanel + column of the panel.
// Positions beyond the last column are zero, and stay zero. A block storage has the same panels, cut along k
// into blocks of 32 rows (the last one padded with zeros).
#pragma once

#include <algorithm>
#include <type_traits>

#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/storage/storage.hpp"

MOE_NAMESPACE_BEGIN

/// Panels of a plain matrix of `columns` columns.
template <class T>
constexpr Index plain_panels(Index columns) noexcept {
  return ceil_div(columns, kPanel<T>);
}

/// Panels of a paired matrix of twice `columns` columns.
template <class T>
constexpr Index paired_panels(Index columns) noexcept {
  return ceil_div(columns, kHalf<T>);
}

/// Elements of `panels` panels of `rows` rows.
template <class Storage>
constexpr Index packed_size(Index rows, Index panels) noexcept {
  return panels * StorageTraits<Storage>::panel_size(rows);
}

/// Position, in panel order, of column n of half `half` (0: gate, 1: up) of a paired matrix.
template <class T>
constexpr Index paired_position(Index half, Index n) noexcept {
  return n / kHalf<T> * kPanel<T> + half * kHalf<T> + n % kHalf<T>;
}

/// View of a packed matrix; T, a storage, may be const. `data` is aligned to 64 bytes and holds
/// packed_size(rows, panels) elements. Of a dense storage that is the flat range on which elementwise
/// optimisers work, since zero padding with zero gradients stays zero. The first rows of a matrix are a view
/// whose panels lie further apart than its own rows fill.
template <class T>
struct PackedView {
  using Storage = std::remove_const_t<T>;
  using Element = std::conditional_t<std::is_const_v<T>, const typename StorageTraits<Storage>::Element,
                                     typename StorageTraits<Storage>::Element>;

  Element* data = nullptr;
  Index rows = 0;    // K, the summed index
  Index panels = 0;  // of kPanel columns each
  Index pitch = 0;   // elements from one panel to the next

  constexpr PackedView() = default;
  constexpr PackedView(Element* data_, Index rows_, Index panels_) noexcept
      : PackedView(data_, rows_, panels_, StorageTraits<Storage>::panel_size(rows_)) {}
  constexpr PackedView(Element* data_, Index rows_, Index panels_, Index pitch_) noexcept
      : data(data_), rows(rows_), panels(panels_), pitch(pitch_) {}
  /// A view of const elements from one of mutable elements.
  template <class U>
  requires(std::is_const_v<T>&& std::is_same_v<U, Storage>) constexpr PackedView(
      const PackedView<U>& other) noexcept
      : PackedView(other.data, other.rows, other.panels, other.pitch) {}

  constexpr Index size() const noexcept { return packed_size<Storage>(rows, panels); }
  constexpr Element* panel(Index j) const noexcept { return data + j * pitch; }
  /// Rows 0 .. `count` - 1 of panels 0 .. `of` - 1.
  constexpr PackedView first(Index count, Index of) const noexcept {
    MOE_ASSERT(count <= rows && of <= panels);
    return {data, count, of, pitch};
  }
  /// Element of row k at `position` in panel order.
  constexpr T& at(Index k, Index position) const noexcept requires DenseStorage<Storage> {
    MOE_ASSERT(k >= 0 && k < rows && position >= 0 && position < panels * kPanel<Storage>);
    return panel(position / kPanel<Storage>)[k * kPanel<Storage> + position % kPanel<Storage>];
  }
};

/// Matrices of one shape, one after the other: matrix g begins g * `pitch` elements behind the first. What
/// the grouped products take as matrix_of(g), in one type for all banks, so that they are compiled once.
template <class T>
struct PackedMatrices {
  typename PackedView<T>::Element* data = nullptr;
  Index pitch = 0;
  Index rows = 0;
  Index panels = 0;

  PackedView<T> operator()(Index g) const noexcept { return {data + g * pitch, rows, panels}; }
};

namespace impl {

/// How the halves of panels follow each other: half-panel h of the matrix is half `first + h * step` of the
/// storage.
struct HalfOrder {
  Index first = 0;
  Index step = 1;
};

inline constexpr HalfOrder kPlainOrder{0, 1};
constexpr HalfOrder paired_order(Index half) noexcept {
  return {half, 2};
}

/// First element of half-panel h.
template <class T>
constexpr T* half_panel(const PackedView<T>& packed, HalfOrder order, Index h) noexcept {
  const Index half = order.first + h * order.step;
  return packed.panel(half / 2) + half % 2 * kHalf<std::remove_const_t<T>>;
}

/// Calls f(element of src [N,K], element of its place in `packed`) for all, one block that stays in the
/// first-level cache after the other; both sides are then read and written in whole cache lines.
template <class S, class P, class F>
void for_each_packed(const MatrixView<S>& src, const PackedView<P>& packed, HalfOrder order, F f) noexcept {
  constexpr Index kColumns = kHalf<std::remove_const_t<P>>;
  constexpr Index kRowBlock = 64;  // 64 rows x 1 cache line: 4 KiB of packed elements
  for (Index n0 = 0; n0 < src.rows; n0 += kColumns) {
    P* half = half_panel(packed, order, n0 / kColumns);
    const Index columns = (std::min)(kColumns, src.rows - n0);
    for (Index k0 = 0; k0 < src.cols; k0 += kRowBlock) {
      const Index end = (std::min)(k0 + kRowBlock, src.cols);
      for (Index c = 0; c < columns; ++c) {
        for (Index k = k0; k < end; ++k) {
          f(src.data[(n0 + c) * src.stride + k], half[k * kPanel<std::remove_const_t<P>> + c]);
        }
      }
    }
  }
}

/// Zeroes the columns from `columns` on, in the halves that belong to the matrix.
template <class T>
void clear_padding(const PackedView<T>& packed, HalfOrder order, Index columns) noexcept {
  const Index halves = packed.panels * 2 / order.step;
  for (Index h = columns / kHalf<T>; h < halves; ++h) {
    T* half = half_panel(packed, order, h);
    const Index used = (std::max)(Index{0}, columns - h * kHalf<T>);
    for (Index k = 0; k < packed.rows; ++k) {
      for (Index c = used; c < kHalf<T>; ++c) half[k * kPanel<T> + c] = T(0);
    }
  }
}

template <class T>
void pack(const ConstMatrixView<T>& src, const PackedView<T>& dst, HalfOrder order) noexcept {
  MOE_ASSERT(src.cols == dst.rows);
  MOE_ASSERT(src.rows <= dst.panels * 2 / order.step * kHalf<T>);
  for_each_packed(src, dst, order, [](const T& from, T& to) noexcept { to = from; });
  clear_padding(dst, order, src.rows);
}

template <class T>
void unpack(const PackedView<const T>& src, const MatrixView<T>& dst, HalfOrder order) noexcept {
  MOE_ASSERT(dst.cols == src.rows);
  MOE_ASSERT(dst.rows <= src.panels * 2 / order.step * kHalf<T>);
  for_each_packed(dst, src, order, [](T& to, const T& from) noexcept { to = from; });
}

}  // namespace impl

/// From the published layout [out,in] = [N,K] to a plain packed matrix of K rows and plain_panels(N) panels.
template <class T>
void pack_plain(const std::type_identity_t<ConstMatrixView<T>>& src, const PackedView<T>& dst) noexcept {
  impl::pack<T>(src, dst, impl::kPlainOrder);
}

/// From [F,K] to half `half` (0: gate, 1: up) of a paired matrix of K rows and paired_panels(F) panels.
template <class T>
void pack_half(const std::type_identity_t<ConstMatrixView<T>>& src, Index half,
               const PackedView<T>& dst) noexcept {
  MOE_ASSERT(half == 0 || half == 1);
  impl::pack<T>(src, dst, impl::paired_order(half));
}

/// The inverse of pack_plain; the number of rows of dst [N,K] says how many columns there are.
template <class T>
void unpack_plain(const PackedView<T>& src,
                  const std::type_identity_t<MatrixView<std::remove_const_t<T>>>& dst) noexcept {
  impl::unpack<std::remove_const_t<T>>(src, dst, impl::kPlainOrder);
}

/// The inverse of pack_half.
template <class T>
void unpack_half(const PackedView<T>& src, Index half,
                 const std::type_identity_t<MatrixView<std::remove_const_t<T>>>& dst) noexcept {
  MOE_ASSERT(half == 0 || half == 1);
  impl::unpack<std::remove_const_t<T>>(src, dst, impl::paired_order(half));
}

MOE_NAMESPACE_END
