#include "moe/core/view.hpp"

#include <Eigen/Core>
#include <cstddef>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <unsupported/Eigen/CXX11/Tensor>
#include <vector>

#include "support/catch.hpp"
#include "support/errors.hpp"

namespace {

using moe::ConstMatrixView;
using moe::Index;
using moe::MatrixView;
using test::message_of;

template <class T>
using RowMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Matrix = RowMatrix<float>;
using Strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
using Tensor3 = Eigen::Tensor<float, 3, Eigen::RowMajor>;

// ---- What binds, and what does not. (Layouts and lifetimes are refused by static_assert:
// tests/compile_fail.)
template <class View, class From>
inline constexpr bool kBinds = std::is_convertible_v<From, View>;

static_assert(kBinds<MatrixView<float>, Matrix&> && kBinds<ConstMatrixView<float>, Matrix&>);
static_assert(kBinds<ConstMatrixView<float>, const Matrix&> && !kBinds<MatrixView<float>, const Matrix&>);
static_assert(kBinds<MatrixView<float>, Eigen::Map<Matrix>> && kBinds<MatrixView<float>, Eigen::Ref<Matrix>>);
static_assert(kBinds<ConstMatrixView<float>, Eigen::Map<const Matrix>> &&
              !kBinds<MatrixView<float>, Eigen::Map<const Matrix>>);
static_assert(kBinds<ConstMatrixView<float>, const Eigen::Ref<const Matrix>&> &&
              !kBinds<MatrixView<float>, const Eigen::Ref<const Matrix>&>);
static_assert(kBinds<MatrixView<float>, Eigen::Block<Matrix>>);
static_assert(kBinds<MatrixView<float>, Eigen::Array<float, 3, 4, Eigen::RowMajor>&>);
static_assert(kBinds<MatrixView<float>, Eigen::RowVectorXf&>);
static_assert(kBinds<ConstMatrixView<float>, MatrixView<float>> &&
              !kBinds<MatrixView<float>, ConstMatrixView<float>>);
static_assert(!kBinds<ConstMatrixView<double>, MatrixView<float>> &&
              !kBinds<ConstMatrixView<float>, Matrix*>);
static_assert(!kBinds<ConstMatrixView<float>, RowMatrix<double>&> &&
              !kBinds<ConstMatrixView<double>, Matrix&>);
static_assert(!kBinds<ConstMatrixView<float>, RowMatrix<int>&>);
// An expression has no memory; it would have to be evaluated into a copy.
static_assert(!kBinds<ConstMatrixView<float>, decltype(std::declval<Matrix&>() + std::declval<Matrix&>())>);
static_assert(!kBinds<ConstMatrixView<float>, decltype(std::declval<Matrix&>() * 2.0f)>);
static_assert(kBinds<MatrixView<float>, Tensor3&> && !kBinds<MatrixView<float>, const Tensor3&>);
static_assert(kBinds<ConstMatrixView<float>, const Tensor3&>);
static_assert(kBinds<MatrixView<float>, Eigen::TensorMap<Tensor3>> &&
              kBinds<MatrixView<float>, const Eigen::TensorMap<Tensor3>&>);
static_assert(kBinds<ConstMatrixView<float>, Eigen::TensorMap<const Tensor3>> &&
              !kBinds<MatrixView<float>, Eigen::TensorMap<const Tensor3>>);
static_assert(!kBinds<ConstMatrixView<float>, Eigen::Tensor<float, 2, Eigen::RowMajor>&> &&
              !kBinds<ConstMatrixView<float>, Eigen::Tensor<float, 4, Eigen::RowMajor>&>);
static_assert(!kBinds<ConstMatrixView<double>, Tensor3&>);
static_assert(!kBinds<ConstMatrixView<float>, decltype(std::declval<Tensor3&>() + std::declval<Tensor3&>())>);

/// A view of constants can be made at compile time.
constexpr float kConstants[] = {1, 2, 3, 4, 5, 6};
constexpr ConstMatrixView<float> kConstantView(kConstants, 2, 3);
static_assert(kConstantView(1, 0) == 4 && kConstantView.stride == 3 &&
              kConstantView.row(1) == kConstants + 3);

/// 100 * row + column
Matrix numbered(Index rows, Index cols) {
  Matrix m(rows, cols);
  for (Index i = 0; i < rows; ++i) {
    for (Index j = 0; j < cols; ++j) m(i, j) = static_cast<float>(100 * i + j);
  }
  return m;
}

template <class T, class M>
bool shows(const MatrixView<T>& view, const M& m) {
  if (view.rows != m.rows() || view.cols != m.cols()) return false;
  for (Index i = 0; i < view.rows; ++i) {
    for (Index j = 0; j < view.cols; ++j) {
      if (view.row(i) + j != &view(i, j) || view(i, j) != m(i, j)) return false;
    }
  }
  return true;
}

ConstMatrixView<float> take(ConstMatrixView<float> view) {
  return view;
}

TEST_CASE("a default view is empty", "[core]") {
  const MatrixView<float> none;
  CHECK(none.empty());
  CHECK_FALSE(static_cast<bool>(none));
  const Matrix no_matrix;
  // One without rows or columns is there all the same.
  CHECK(static_cast<bool>(MatrixView<float>(nullptr, 0, 7)));
  CHECK(static_cast<bool>(MatrixView<float>(nullptr, 7, 0)));
  CHECK_FALSE(static_cast<bool>(take(no_matrix)));
  CHECK((none.rows == 0 && none.cols == 0 && none.stride == 0));
}

TEST_CASE("views of Eigen matrices", "[core][smoke]") {
  Matrix m = numbered(5, 7);
  CHECK(shows(take(m), m));
  const Matrix& constant = m;
  CHECK(shows(take(constant), m));
  MatrixView<float> writable(m);
  writable(2, 3) = -1;
  CHECK(m(2, 3) == -1);
  CHECK(static_cast<bool>(writable));

  Eigen::Matrix<float, 3, 4, Eigen::RowMajor> fixed = m.topLeftCorner<3, 4>();
  CHECK(shows(take(fixed), fixed));
  Eigen::Array<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> array = m.array();
  CHECK(shows(take(array), m));
  Eigen::RowVectorXf row = m.row(1);
  CHECK(shows(take(row), row));
  const RowMatrix<double> wide = m.cast<double>();
  CHECK(shows(ConstMatrixView<double>(wide), wide));
}

TEST_CASE("views of parts: Block, Ref, Map with an outer stride", "[core][smoke]") {
  Matrix m = numbered(6, 8);
  const auto block = m.block(1, 2, 3, 4);
  CHECK(shows(take(block), block));
  CHECK(take(block).stride == 8);
  CHECK(take(block).data == &m(1, 2));
  CHECK(shows(take(m.middleRows(2, 3)), m.middleRows(2, 3)));
  CHECK(shows(take(m.row(4)), m.row(4)));
  CHECK(shows(take(m.rightCols(1)), m.rightCols(1)));

  Eigen::Ref<Matrix, 0, Eigen::OuterStride<>> ref = m.leftCols(5);
  CHECK(shows(take(ref), ref));
  CHECK(take(ref).data == m.data());
  const Eigen::Ref<const Matrix> whole = m;
  CHECK(take(whole).data == m.data());
  MatrixView<float>{ref}(5, 4) = 3;
  CHECK(m(5, 4) == 3);

  const Eigen::Map<const Matrix, 0, Eigen::OuterStride<>> map(m.data() + 1, 3, 2, Eigen::OuterStride<>(16));
  CHECK(shows(take(map), map));
  CHECK(take(map).stride == 16);

  // The transpose of a column-major matrix is row-major.
  Eigen::MatrixXf columns = m;
  CHECK(shows(take(columns.transpose()), columns.transpose()));
  const Eigen::VectorXf vector = m.col(3);
  CHECK(shows(take(vector.transpose()), vector.transpose()));
}

TEST_CASE("views take data of any alignment", "[core][smoke]") {
  std::vector<float> memory(40);
  for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<float>(i);
  for (Index skew = 0; skew < 16; ++skew) {
    const Eigen::Map<Matrix> map(memory.data() + skew, 4, 5);
    CHECK(shows(take(map), map));
  }
}

TEST_CASE("an inner stride is refused", "[core]") {
  std::vector<float> memory(100);
  const Eigen::Map<Matrix, 0, Strides> apart(memory.data(), 3, 4, Strides(12, 2));
  CHECK(message_of<moe::shape_error>([&] { take(apart); }) ==
        "moe: matrix view: expected an inner stride of 1, got 2");
  const Eigen::Map<Matrix, 0, Strides> together(memory.data(), 3, 4, Strides(12, 1));
  CHECK(shows(take(together), together));
  // A row of a column-major matrix is a row, but its elements are far apart.
  Eigen::MatrixXf columns(5, 4);
  CHECK(message_of<moe::shape_error>([&] { take(columns.row(2)); }) ==
        "moe: matrix view: expected an inner stride of 1, got 5");
}

TEST_CASE("views of rank-3 tensors: rows are batch times sequence", "[core][smoke]") {
  Tensor3 tensor(2, 3, 4);
  for (Index b = 0; b < 2; ++b) {
    for (Index s = 0; s < 3; ++s) {
      for (Index d = 0; d < 4; ++d) tensor(b, s, d) = static_cast<float>(100 * (3 * b + s) + d);
    }
  }
  const Matrix expected = numbered(6, 4);
  CHECK(shows(take(tensor), expected));
  const Tensor3& constant = tensor;
  CHECK(shows(take(constant), expected));
  const Eigen::TensorMap<Tensor3> map(tensor.data(), 2, 3, 4);
  CHECK(shows(take(map), expected));
  CHECK(shows(take(Eigen::TensorMap<const Tensor3>(tensor.data(), 2, 3, 4)), expected));
  MatrixView<float> writable(map);
  writable(5, 3) = -7;
  CHECK(tensor(1, 2, 3) == -7);
  Eigen::Tensor<float, 3, Eigen::RowMajor, int> narrow(2, 1, 2);  // int indices
  CHECK(take(narrow).rows == 2);
  const Tensor3 none(0, 3, 4);
  CHECK((take(none).rows == 0 && take(none).cols == 4));
}

TEST_CASE("matrices without elements", "[core]") {
  Matrix no_rows(0, 5), no_columns(5, 0), neither(0, 0);
  CHECK((take(no_rows).rows == 0 && take(no_rows).cols == 5 && take(no_rows).empty()));
  CHECK((take(no_columns).rows == 5 && take(no_columns).cols == 0 && take(no_columns).empty()));
  CHECK(take(neither).empty());
  CHECK(MatrixView<float>(nullptr, 0, 7).empty());
  CHECK(MatrixView<float>(nullptr, 7, 0).empty());
}

TEST_CASE("views check extents, stride and pointer", "[core]") {
  float memory[12] = {};
  const auto message = [&](float* data, Index rows, Index cols, Index stride) {
    return message_of<moe::shape_error>([=] { MatrixView<float>(data, rows, cols, stride); });
  };
  CHECK(message(memory, 3, 4, 4) == "nothing thrown");
  CHECK(message(memory, -1, 4, 4) == "moe: matrix view: expected extents >= 0, got -1 x 4");
  CHECK(message(memory, 3, -4, 4) == "moe: matrix view: expected extents >= 0, got 3 x -4");
  CHECK(message(memory, 3, 4, 3) == "moe: matrix view: expected a row stride of at least 4 columns, got 3");
  CHECK(message(memory, 3, 4, -4) == "moe: matrix view: expected a row stride of at least 4 columns, got -4");
  CHECK(message(memory, 2, 0, -1) == "moe: matrix view: expected a row stride of at least 0 columns, got -1");
  CHECK(message(nullptr, 3, 4, 4) ==
        "moe: matrix view: expected data for 3 x 4 elements, got a null pointer");
  // With one row nobody goes to the next.
  for (const Index stride : {Index{0}, Index{-5}, PTRDIFF_MAX, PTRDIFF_MIN}) {
    CHECK(message(memory, 1, 4, stride) == "nothing thrown");
    CHECK(message(memory, 0, 4, stride) == "nothing thrown");
  }
}

TEST_CASE("views check that their bytes can be counted", "[core]") {
  float one = 0;
  constexpr Index kLargest = PTRDIFF_MAX / 4;
  CHECK(message_of<moe::size_error>([&] { MatrixView<float>(&one, 1, kLargest); }) == "nothing thrown");
  CHECK_THROWS_AS(MatrixView<float>(&one, 1, kLargest + 1), moe::size_error);
  CHECK_THROWS_AS(MatrixView<float>(&one, 2, 1, kLargest / 2 + 1), moe::size_error);
  CHECK_THROWS_AS(MatrixView<float>(&one, kLargest, 4), moe::size_error);
  CHECK_THROWS_AS(MatrixView<float>(&one, 2, 0, PTRDIFF_MAX), moe::size_error);
}

TEST_CASE("require_shape names the matrix", "[core]") {
  Matrix m(3, 4);
  moe::require_shape("y", take(m), 3, 4);
  CHECK(message_of<moe::shape_error>([&] { moe::require_shape("y", take(m), 4, 4); }) ==
        "moe: y: expected a matrix of 4 x 4, got 3 x 4");
  CHECK(message_of<moe::shape_error>([&] { moe::require_shape("y", take(m), 3, 5); }) ==
        "moe: y: expected a matrix of 3 x 5, got 3 x 4");
}

TEST_CASE("overlap of views", "[core]") {
  std::vector<float> memory(100);
  const auto view = [&](Index first, Index rows, Index cols, Index stride) {
    return MatrixView<float>(memory.data() + first, rows, cols, stride);
  };
  const auto both_ways = [](const auto& a, const auto& b) {
    CHECK(moe::overlap(a, b) == moe::overlap(b, a));
    return moe::overlap(a, b);
  };
  const MatrixView<float> a = view(20, 3, 4, 10);  // elements 20..43 with gaps
  CHECK(both_ways(a, a));
  CHECK(both_ways(a, ConstMatrixView<float>(a)));
  CHECK_FALSE(both_ways(a, view(0, 2, 10, 10)));   // ends where a begins
  CHECK(both_ways(a, view(0, 21, 1, 1)));          // one element more
  CHECK_FALSE(both_ways(a, view(44, 2, 10, 10)));  // begins where a ends: the gap after the last row is free
  CHECK(both_ways(a, view(43, 1, 1, 1)));
  CHECK(both_ways(a, view(30, 1, 1, 1)));         // inside
  CHECK_FALSE(both_ways(a, view(25, 1, 2, 2)));   // in a gap, which is nobody's
  CHECK(both_ways(a, view(0, 10, 10, 10)));       // around
  CHECK_FALSE(both_ways(a, view(20, 0, 4, 10)));  // nothing overlaps with nothing
  CHECK_FALSE(both_ways(a, view(20, 3, 0, 10)));
  CHECK_FALSE(both_ways(a, MatrixView<float>()));
  // Of other element types, by bytes.
  const MatrixView<char> bytes(reinterpret_cast<char*>(memory.data() + 44) - 1, 1, 1);
  CHECK(both_ways(a, bytes));
  const MatrixView<char> next(reinterpret_cast<char*>(memory.data() + 44), 1, 1);
  CHECK_FALSE(both_ways(a, next));
}

TEST_CASE("overlap is that of the elements, for any two views of one memory", "[core]") {
  constexpr Index kSize = 13;
  std::vector<std::byte> memory(32 * kSize);
  const auto marks = [&](const auto& v) {
    std::vector<bool> taken(memory.size());
    for (Index i = 0; i < v.rows; ++i) {
      const auto first = reinterpret_cast<const std::byte*>(v.row(i)) - memory.data();
      for (Index b = 0; b < v.cols * Index{sizeof(*v.data)}; ++b) {
        taken[static_cast<std::size_t>(first + b)] = true;
      }
    }
    return taken;
  };
  std::mt19937 random(5);
  const auto below = [&](Index n) { return static_cast<Index>(random() % static_cast<std::uint32_t>(n)); };
  // At most 3 rows apart by at most 6, from 5 different starts of 4-byte or 8-byte elements.
  const auto draw = [&](auto type) {
    using T = decltype(type);
    const Index rows = below(4), cols = below(5), stride = rows > 1 ? cols + below(4) : below(9) - 4;
    return MatrixView<T>(reinterpret_cast<T*>(memory.data()) + below(kSize), rows, cols, stride);
  };
  int met = 0, interleaved = 0;
  for (int round = 0; round < 4000; ++round) {
    const auto check = [&](const auto& a, const auto& b) {
      const auto in_a = marks(a), in_b = marks(b);
      bool meet = false;
      for (std::size_t i = 0; i < memory.size(); ++i) meet = meet || (in_a[i] && in_b[i]);
      REQUIRE(moe::overlap(a, b) == meet);
      REQUIRE(moe::overlap(b, a) == meet);
      met += meet;
      interleaved += !meet && !a.empty() && !b.empty();
    };
    check(draw(float{}), draw(float{}));
    check(draw(float{}), draw(double{}));
  }
  CHECK((met > 1000 && interleaved > 1000));
}

TEST_CASE("blocks of columns of one matrix are disjoint", "[core]") {
  Matrix m(1000, 24);
  for (Index first = 1; first < 24; ++first) {
    const MatrixView<float> left(m.leftCols(first)), right(m.rightCols(24 - first)),
        one_more(m.rightCols(25 - first));
    CHECK_FALSE(moe::overlap(left, right));
    CHECK(moe::overlap(left, one_more));
    CHECK_FALSE(moe::overlap(left, MatrixView<float>(m.bottomRightCorner(7, 24 - first))));
  }
}

TEST_CASE("a view is the same as another by pointer, extents and stride", "[core]") {
  Matrix m(6, 8);
  const ConstMatrixView<float> all(m);
  CHECK(moe::same_view(all, take(m)));
  CHECK(moe::same_view(all, MatrixView<float>(m)));
  CHECK_FALSE(moe::same_view(all, take(m.topRows(5))));
  CHECK_FALSE(moe::same_view(all, take(m.leftCols(7))));
  CHECK_FALSE(moe::same_view(take(m.topRows(3)), ConstMatrixView<float>(m.data(), 3, 8, 16)));
  CHECK(moe::same_view(take(m.topRows(1)), ConstMatrixView<float>(m.data(), 1, 8, 99)));
}

TEST_CASE("require_disjoint names both views", "[core]") {
  Matrix m(4, 4);
  moe::require_disjoint("x", take(m.topRows(2)), "y", MatrixView<float>(m.bottomRows(2)));
  CHECK(message_of<moe::shape_error>(
            [&] { moe::require_disjoint("x", take(m), "y", MatrixView<float>(m.bottomRows(2))); }) ==
        "moe: y: expected memory apart from x, got overlapping matrices; give the output its own storage");
}

}  // namespace
