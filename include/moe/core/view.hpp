// Row-major matrix views: pointer, extents, row stride. The only shape the inside of the library knows. They
// convert from Eigen's row-major matrices, Map, Ref, Block and rank-3 TensorMap without including Eigen.
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

template <class T>
struct MatrixView;

namespace impl {

/// Eigen's dense objects with direct access: Matrix, Array, Map, Ref, Block.
template <class M>
concept DenseMatrix = requires(M& m) {
  m.data();
  { m.rows() } -> std::convertible_to<Index>;
  { m.cols() } -> std::convertible_to<Index>;
  { m.outerStride() } -> std::convertible_to<Index>;
  { m.innerStride() } -> std::convertible_to<Index>;
  M::IsRowMajor;
};

/// Eigen::Tensor and TensorMap of rank 3: [batch, sequence, width].
template <class M>
concept RankThreeTensor = requires(M& m) {
  m.data();
  { m.dimension(0) } -> std::convertible_to<Index>;
  requires M::NumDimensions == 3;
  M::Layout;
};

/// The numbers of a matrix, tensor or view, const if they must not be written; void of anything else.
template <class M>
struct ElementsOf {
  using type = void;
};
template <class M>
requires DenseMatrix<M> || RankThreeTensor<M>
struct ElementsOf<M> {
  using type = std::remove_pointer_t<decltype(std::declval<M&>().data())>;
};
template <class T>
struct ElementsOf<MatrixView<T>> {
  using type = T;
};
template <class T>
struct ElementsOf<const MatrixView<T>> {
  using type = T;
};
template <class M>
using ElementOf = typename ElementsOf<std::remove_reference_t<M>>::type;

template <class M>
concept MatrixOrView = !std::is_void_v<ElementOf<M>>;
template <class M, class T>
concept HasElements = std::is_convertible_v<std::add_pointer_t<ElementOf<M>>, T*>;

template <class M>
concept Expression = requires(M& m) {
  m.rows();
  m.cols();
}
|| requires {
  std::remove_reference_t<M>::NumDimensions;
};

/// What its writer may have taken for a matrix of T, but no view is made of.
template <class M, class T>
concept MistakenMatrix = !HasElements<M, T> && (MatrixOrView<M> || Expression<M>);

/// Does not compile, and says what is the matter with M.
template <class M, class T>
constexpr void refuse_matrix() {
  using Element = ElementOf<M>;
  constexpr bool kHasElements = MatrixOrView<M>;
  constexpr bool kSameType = std::is_same_v<std::remove_const_t<Element>, std::remove_const_t<T>>;
  static_assert(
      kHasElements,
      "moe: a row-major matrix expected, a Map, Ref or Block of one, or a tensor of rank 3; evaluate "
      "an expression into a matrix first");
  static_assert(!kHasElements || kSameType,
                "moe: a matrix of another type of numbers; convert it, as in "
                "x.cast<float>() into a matrix, or take a layer of that type");
  static_assert(!kHasElements || !kSameType || !std::is_const_v<Element>,
                "moe: this matrix is const, but it would be written to");
}

/// A tensor with memory of its own: its elements are const when it is. A TensorMap's are not.
template <class M>
concept OwnsElements =
    !std::same_as<decltype(std::declval<M&>().data()), decltype(std::declval<const M&>().data())>;

inline constexpr int kEigenRowMajor = 1;  // Eigen::RowMajor

}  // namespace impl

/// View of a row-major matrix. `stride` is the distance between rows in elements, at least `cols` unless
/// there is at most one row. Any alignment.
template <class T>
struct MatrixView {
  T* data = nullptr;
  Index rows = 0;
  Index cols = 0;
  Index stride = 0;

  constexpr MatrixView() = default;

  /// Throws shape_error for negative extents, a stride below `cols`, or a null pointer to a non-empty matrix;
  /// size_error for more bytes than Index counts.
  constexpr MatrixView(T* data_, Index rows_, Index cols_, Index stride_)
      : data(data_), rows(rows_), cols(cols_), stride(stride_) {
    if (rows < 0 || cols < 0) {
      fail<shape_error>("matrix view: expected extents >= 0, got ", rows, " x ", cols);
    }
    if (rows > 1 && stride < cols) {
      fail<shape_error>("matrix view: expected a row stride of at least ", cols, " columns, got ", stride);
    }
    if (data == nullptr && rows > 0 && cols > 0) {
      fail<shape_error>("matrix view: expected data for ", rows, " x ", cols,
                        " elements, got a null pointer");
    }
    if (rows > 0) {
      static_cast<void>(checked_product("matrix view", rows, rows > 1 ? stride : cols, Index{sizeof(T)}));
    }
  }

  constexpr MatrixView(T* data_, Index rows_, Index cols_) : MatrixView(data_, rows_, cols_, cols_) {}

  /// From Eigen: row-major, unit inner stride. Column-major matrices do not compile.
  template <class M>
  requires impl::DenseMatrix<std::remove_reference_t<M>> && impl::HasElements<M, T>
  constexpr MatrixView(M&& m)
      : MatrixView(m.data(), Index{m.rows()}, Index{m.cols()}, Index{m.outerStride()}) {
    using Dense = std::remove_cvref_t<M>;
    static_assert(Dense::IsRowMajor || Dense::IsVectorAtCompileTime,
                  "moe: row-major expected; declare the matrix as "
                  "Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>");
    static_assert(
        Dense::IsRowMajor || !Dense::IsVectorAtCompileTime,
        "moe: a column vector is not a matrix of rows; pass v.transpose() or a Map of shape [1, n]");
    static_assert(std::is_lvalue_reference_v<M> || !std::is_same_v<Dense, typename Dense::PlainObject>,
                  "moe: a view of a temporary matrix would dangle; give the matrix a name");
    if (m.innerStride() != 1) {
      fail<shape_error>("matrix view: expected an inner stride of 1, got ", Index{m.innerStride()});
    }
  }

  /// From Eigen's rank-3 tensors [batch, sequence, width]: rows = batch * sequence.
  template <class M>
  requires impl::RankThreeTensor<std::remove_reference_t<M>> && impl::HasElements<M, T>
  constexpr MatrixView(M&& m)
      : MatrixView(m.data(), checked_product("tensor rows", Index{m.dimension(0)}, Index{m.dimension(1)}),
                   Index{m.dimension(2)}) {
    static_assert(int{std::remove_cvref_t<M>::Layout} == impl::kEigenRowMajor,
                  "moe: row-major expected; declare the tensor with Eigen::RowMajor");
    static_assert(std::is_lvalue_reference_v<M> || !impl::OwnsElements<std::remove_cvref_t<M>>,
                  "moe: a view of a temporary tensor would dangle; give the tensor a name");
  }

  /// A view of const elements from one of mutable elements.
  template <class U>
  requires(std::is_const_v<T>&& std::is_same_v<const U, T>) constexpr MatrixView(const MatrixView<U>& other)
      : data(other.data), rows(other.rows), cols(other.cols), stride(other.stride) {}

  /// Of anything else that looks like a matrix: a sentence instead of a list of candidates.
  template <impl::MistakenMatrix<T> M>
  explicit MatrixView(M&&) {
    impl::refuse_matrix<M, T>();
  }

  constexpr T* row(Index i) const noexcept {
    MOE_ASSERT(i >= 0 && i < rows);
    return data + i * stride;
  }
  constexpr T& operator()(Index i, Index j) const noexcept {
    MOE_ASSERT(i >= 0 && i < rows && j >= 0 && j < cols);
    return data[i * stride + j];
  }
  constexpr bool empty() const noexcept { return data == nullptr || rows == 0 || cols == 0; }
  /// Whether there is a matrix, be it one without rows or columns; false for a default view.
  constexpr explicit operator bool() const noexcept { return data != nullptr || rows != 0 || cols != 0; }
};

template <class T>
using ConstMatrixView = MatrixView<const T>;

/// Whether both are the same elements in the same places: pointer, extents and, where there is a second row,
/// stride.
template <class A, class B>
constexpr bool same_view(const MatrixView<A>& a, const MatrixView<B>& b) noexcept {
  return a.data == b.data && a.rows == b.rows && a.cols == b.cols && (a.rows < 2 || a.stride == b.stride);
}

/// `view` must be [rows, cols]; the message names it.
template <class T>
void require_shape(const char* argument, const MatrixView<T>& view, Index rows, Index cols) {
  if (view.rows != rows || view.cols != cols) {
    fail<shape_error>(argument, ": expected a matrix of ", rows, " x ", cols, ", got ", view.rows, " x ",
                      view.cols);
  }
}

namespace impl {

/// Where the bytes of a view lie: [first + i * step, first + i * step + width) for i < rows.
struct RowBytes {
  std::uintptr_t first, step, width, rows;
  template <class T>
  explicit RowBytes(const MatrixView<T>& v) noexcept
      : first(reinterpret_cast<std::uintptr_t>(v.data)),
        step(static_cast<std::uintptr_t>(v.rows > 1 ? v.stride : v.cols) * sizeof(T)),
        width(static_cast<std::uintptr_t>(v.cols) * sizeof(T)),
        rows(static_cast<std::uintptr_t>(v.rows)) {}
  std::uintptr_t row(std::uintptr_t i) const noexcept { return first + i * step; }
  std::uintptr_t last() const noexcept { return row(rows - 1) + width; }
  /// Whether a row has bytes of [from, to): rows ascend, so the last that begins before `to` ends last.
  bool meet(std::uintptr_t from, std::uintptr_t to) const noexcept {
    if (to <= first) return false;
    const std::uintptr_t i = (to - first - 1) / step;
    return row(i < rows ? i : rows - 1) + width > from;
  }
};

}  // namespace impl

/// True if any byte belongs to elements of both views; what lies between their rows is nobody's, so blocks of
/// columns of one matrix do not overlap. O(rows) where they interleave, else O(1).
template <class A, class B>
bool overlap(const MatrixView<A>& a, const MatrixView<B>& b) noexcept {
  if (a.empty() || b.empty()) return false;
  impl::RowBytes few(a), many(b);
  if (few.last() <= many.first || many.last() <= few.first) return false;
  if (few.rows > many.rows) std::swap(few, many);
  for (std::uintptr_t i = 0; i < few.rows; ++i) {
    if (many.meet(few.row(i), few.row(i) + few.width)) return true;
  }
  return false;
}

/// `writes` must share no memory with `reads`.
template <class A, class B>
void require_disjoint(const char* reads_name, const MatrixView<A>& reads, const char* writes_name,
                      const MatrixView<B>& writes) {
  if (overlap(reads, writes)) {
    fail<shape_error>(writes_name, ": expected memory apart from ", reads_name,
                      ", got overlapping matrices; give the output its own storage");
  }
}

MOE_NAMESPACE_END
