// A tensor of a checkpoint as a view of the file's bytes, and reading it.
#pragma once

#include <cstdint>
#include <string>

#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/io/file/dtype.hpp"
#include "moe/io/file/text.hpp"

MOE_NAMESPACE_BEGIN
namespace io {

class MappedFile;

/// Extents, outermost first. Rank 0 is a scalar, of one element.
struct Shape {
  static constexpr Index kMostRank = 8;
  Index rank = 0;
  Index extent[kMostRank] = {};

  Shape() = default;
  template <class... N>
  requires(sizeof...(N) <= kMostRank) explicit Shape(N... n)
      : rank(sizeof...(N)), extent{static_cast<Index>(n)...} {}

  Index operator[](Index i) const noexcept {
    MOE_ASSERT(i >= 0 && i < rank);
    return extent[i];
  }
  /// Throws size_error when the product does not fit Index.
  Index elements() const {
    Index n = 1;
    for (Index i = 0; i < rank; ++i) n = checked_product("shape", n, extent[i]);
    return n;
  }
  /// "[8, 64]".
  std::string text() const {
    std::string out = "[";
    for (Index i = 0; i < rank; ++i) out += (i > 0 ? ", " : "") + std::to_string(extent[i]);
    return out + "]";
  }
  friend bool operator==(const Shape& a, const Shape& b) noexcept {
    if (a.rank != b.rank) return false;
    for (Index i = 0; i < a.rank; ++i) {
      if (a.extent[i] != b.extent[i]) return false;
    }
    return true;
  }
};

/// A view: `data` points into the file's bytes (little-endian, row-major, of any alignment) and lives as long
/// as their owner. A Tensor that a reader hands out has data for exactly its shape.
struct Tensor {
  std::string name;
  DType dtype = DType::F32;
  Shape shape;
  const std::byte* data = nullptr;
  Index bytes = 0;
  const MappedFile* file = nullptr;     // null: bytes of the caller
  const std::string* source = nullptr;  // how messages call the file
  std::string other_dtype{};            // of DType::other: its name in the file

  /// For messages: `<file>: tensor "<name>"`.
  std::string where() const {
    return (source == nullptr ? std::string() : *source + ": ") + "tensor " + in_quotes(name);
  }
  std::string dtype_text() const {
    return dtype == DType::other ? in_quotes(other_dtype) : std::string(dtype_name(dtype));
  }
};

/// Throws format_error naming file, tensor, expected and actual shape.
inline void require_tensor_shape(const Tensor& tensor, const Shape& expected) {
  if (tensor.shape == expected) return;
  fail<format_error>(tensor.where().c_str(), ": expected shape ", expected.text().c_str(), ", got ",
                     tensor.shape.text().c_str());
}
inline void require_dtype(const Tensor& tensor, DType expected) {
  if (tensor.dtype == expected) return;
  fail<format_error>(tensor.where().c_str(), ": expected dtype ", dtype_name(expected), ", got ",
                     tensor.dtype_text().c_str());
}

/// Throws format_error for a tensor that is not of floats which are numbers by themselves: integers and the
/// 8-bit and 4-bit floats are weights only together with scales, where a format says so (io/quantised.hpp).
inline void require_plain(const Tensor& tensor) {
  switch (tensor.dtype) {
    case DType::F16:
    case DType::BF16:
    case DType::F32:
    case DType::F64:
      return;
    default:
      fail<format_error>(
          tensor.where().c_str(), ": expected F32, F16, BF16 or F64, numbers by themselves, got ",
          tensor.dtype_text().c_str(), "; is the checkpoint in a format that is not read here?");
  }
}

/// to [rows, cols] = a tensor of plain numbers of that shape. Throws format_error naming file and tensor.
inline void read_matrix(const Tensor& tensor, const MatrixView<float>& to) {
  require_plain(tensor);
  require_tensor_shape(tensor, Shape(to.rows, to.cols));
  for (Index o = 0; o < to.rows; ++o) {
    decode_floats(tensor.dtype, tensor.data, o * to.cols, to.cols, to.row(o));
  }
}

/// to[n] = a tensor of plain numbers and n elements, whatever extents of 1 it has besides ([n], [1, n], [n,
/// 1]).
inline void read_vector(const Tensor& tensor, float* to, Index n) {
  require_plain(tensor);
  bool fits = tensor.shape.elements() == n;
  Index longest = 1;
  for (Index i = 0; i < tensor.shape.rank; ++i) longest = tensor.shape[i] == 1 ? longest : tensor.shape[i];
  fits = fits && longest == n;
  if (!fits) {
    fail<format_error>(tensor.where().c_str(), ": expected a vector of ", n, ", got shape ",
                       tensor.shape.text().c_str());
  }
  decode_floats(tensor.dtype, tensor.data, 0, n, to);
}

/// to[n] = a tensor of n integers of any shape, for example the table of a hash router. Throws format_error
/// for another type or count, or an unsigned number beyond Index.
inline void read_integers(const Tensor& tensor, Index* to, Index n) {
  const Index width = dtype_bits(tensor.dtype) / 8;
  bool is_signed = false;
  switch (tensor.dtype) {
    case DType::I8:
    case DType::I16:
    case DType::I32:
    case DType::I64:
      is_signed = true;
      break;
    case DType::U8:
    case DType::U16:
    case DType::U32:
    case DType::U64:
      break;
    default:
      fail<format_error>(tensor.where().c_str(), ": expected integers, got ", tensor.dtype_text().c_str());
  }
  if (tensor.shape.elements() != n) {
    fail<format_error>(tensor.where().c_str(), ": expected ", n, " integers, got shape ",
                       tensor.shape.text().c_str());
  }
  for (Index i = 0; i < n; ++i) {
    std::uint64_t word = 0;
    for (Index b = 0; b < width; ++b) {
      word |= std::to_integer<std::uint64_t>(tensor.data[i * width + b]) << (8 * b);
    }
    const std::uint64_t sign = std::uint64_t{1} << (8 * width - 1);
    if (is_signed) word = (word ^ sign) - sign;
    if (!is_signed && word > std::uint64_t{PTRDIFF_MAX}) {
      fail<format_error>(tensor.where().c_str(), ": expected integers of 63 bits, got ", word);
    }
    to[i] = static_cast<Index>(word);
  }
}

}  // namespace io
MOE_NAMESPACE_END
