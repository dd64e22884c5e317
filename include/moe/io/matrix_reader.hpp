// Reading the matrices of a layer's experts, one at a time, as their layout says.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/view.hpp"
#include "moe/io/checkpoint.hpp"
#include "moe/io/file/tensor.hpp"
#include "moe/io/layout.hpp"
#include "moe/io/quantised.hpp"
#include "moe/kernel/finite.hpp"

MOE_NAMESPACE_BEGIN
namespace io {

/// Reads the matrices that one MatrixLayout describes. Refers to the checkpoint, which must outlive it.
class MatrixReader {
 public:
  /// experts = 0: a single matrix, whose tensor has no expert dimension (a shared expert, a router). Finds
  /// and checks the tensors of all experts. Throws format_error naming file, tensor, expected and found;
  /// config_error for a layout that contradicts itself.
  MatrixReader(const Checkpoint& checkpoint, MatrixLayout layout, Index experts, Index out, Index in)
      : checkpoint_(&checkpoint),
        layout_(std::move(layout)),
        experts_(experts),
        out_(out),
        in_(in),
        choice_(layout_.outputs, out) {
    require_range("experts", experts, 0, INT32_MAX);
    require_range("matrix outputs", out, 1, PTRDIFF_MAX / 2);
    require_range("matrix inputs", in, 1, PTRDIFF_MAX / 2);
    checked_product("matrices", std::max<Index>(1, experts), choice_.stored, in);
    const bool named = layout_.name.find("{expert}") != std::string::npos;
    if (named && (experts == 0 || layout_.stacked)) {
      fail<config_error>("layout of ", in_quotes(layout_.name).c_str(),
                         ": expected experts in separate tensors not to be stacked or absent");
    }
    if ((layout_.encoding == Encoding::plain) != layout_.scales.empty()) {
      fail<config_error>("layout of ", in_quotes(layout_.name).c_str(),
                         ": expected scales for encoded elements and none for plain ones");
    }
    each_ = named;
    for (Index e = 0; e < (each_ ? experts : 1); ++e) static_cast<void>(matrix(e));
  }

  Index experts() const noexcept { return experts_; }
  Index out() const noexcept { return out_; }
  Index in() const noexcept { return in_; }
  const MatrixLayout& layout() const noexcept { return layout_; }

  /// to [out, in] = the matrix of expert e (0 of a single matrix). Throws shape_error or config_error.
  void read(Index e, const MatrixView<float>& to) const {
    require_range("expert", e, 0, std::max<Index>(1, experts_) - 1);
    require_shape("matrix of an expert", to, out_, in_);
    std::visit([&](const auto& stored) { copy(stored, to); }, matrix(e));
  }

  /// Lets go of the file's pages behind expert e.
  void release(Index e) const noexcept {
    const auto drop = [&](const std::string& name) {
      const Tensor* const t = checkpoint_->find(with_number(name, "{expert}", layout_.first + e));
      if (t == nullptr || t->file == nullptr) return;
      const Index pieces = each_ || experts_ == 0 ? 1 : stored_experts();
      const Index bytes = t->bytes / pieces;
      t->file->release(t->data + (pieces == 1 ? 0 : e * bytes), bytes);
    };
    for (const std::string* const name : {&layout_.name, &layout_.scales, &layout_.zeros}) {
      if (!name->empty()) drop(*name);
    }
  }

  /// The stored matrix [A, B] of expert e.
  StoredMatrix matrix(Index e) const {
    const Tensor& values = tensor(layout_.name, e);
    const Index a = layout_.transposed ? in_ : choice_.stored, b = layout_.transposed ? choice_.stored : in_;
    switch (layout_.encoding) {
      case Encoding::plain:
        require_plain(values);
        require_shape_of(values, a, b);
        return PlainMatrix{values.dtype, piece(values, e), b};
      case Encoding::scaled:
        return scaled(values, e, a, b);
      case Encoding::mxfp4:
        return mxfp4(values, e, a, b);
      case Encoding::nvfp4:
        return nvfp4(values, e, a, b);
      case Encoding::gptq:
      case Encoding::awq:
        return words(values, e);
      case Encoding::int4:
        break;
    }
    return int4(values, e, a, b);
  }

  /// Expert e's codes and scales where they can be repacked without loss: 4-bit groups of 32 along `in`, with
  /// 16-bit scales; 8-bit integers with one scale a row or one for all.
  std::optional<StoredCodes> groups(Index e) const {
    if (layout_.encoding == Encoding::scaled) return channels(e);
    if (layout_.encoding != Encoding::int4 || layout_.group != CodeGroups::kGroup || layout_.transposed) {
      return std::nullopt;
    }
    const Int4Matrix m = std::get<Int4Matrix>(matrix(e));
    if (m.scale_dtype != DType::F16 && m.scale_dtype != DType::BF16) return std::nullopt;
    return CodeGroups{.out = out_,
                      .in = in_,
                      .bits = 4,
                      .scale_dtype = m.scale_dtype,
                      .codes = m.values,
                      .code_row = ceil_div(in_, Index{8}) * 4,
                      .code_group = CodeGroups::kGroup / 2,
                      .split = false,
                      .scales = m.scales,
                      .scale_row = ceil_div(in_, CodeGroups::kGroup) * 2,
                      .scale_group = 2,
                      .first_output = choice_.first,
                      .output_step = choice_.step};
  }

 private:
  std::optional<StoredCodes> channels(Index e) const {
    const ScaledMatrix m = std::get<ScaledMatrix>(matrix(e));
    if (m.dtype != DType::I8 || layout_.transposed || m.block_cols < in_) return std::nullopt;
    return CodeChannels{.out = out_,
                        .in = in_,
                        .codes = m.values,
                        .scale_dtype = m.scale_dtype,
                        .scales = m.scales,
                        .scale_rows = m.block_rows,
                        .first_output = choice_.first,
                        .output_step = choice_.step};
  }

  const Tensor& tensor(const std::string& name, Index e) const {
    return checkpoint_->at(each_ ? with_number(name, "{expert}", layout_.first + e) : name);
  }
  /// Of a tensor that holds all.
  Index stored_experts() const noexcept { return experts_ + layout_.behind; }
  /// Bytes of expert e in a tensor.
  const std::byte* piece(const Tensor& t, Index e) const noexcept {
    return each_ || experts_ == 0 ? t.data : t.data + e * (t.bytes / stored_experts());
  }

  Shape expected_shape(Index a, Index b) const {
    if (each_ || experts_ == 0) return Shape(a, b);
    return layout_.stacked ? Shape(stored_experts() * a, b) : Shape(stored_experts(), a, b);
  }
  void require_shape_of(const Tensor& t, Index a, Index b) const {
    const Shape expected = expected_shape(a, b);
    if (t.shape == expected) return;
    const bool turned = a != b && t.shape == expected_shape(b, a);
    fail<format_error>(t.where().c_str(), ": expected shape ", expected.text().c_str(), " for ",
                       experts_ == 0 ? 0 : stored_experts(), " experts, ", out_, " outputs, ", in_,
                       " inputs, got ", t.shape.text().c_str(),
                       turned ? "; that is the other orientation" : "");
  }
  /// A tensor of scales: of that shape, or without extents of 1.
  void require_scales(const Tensor& t, Index a, Index b) const {
    const Shape expected = expected_shape(a, b);
    const auto squeezed = [](const Shape& s) noexcept {
      Shape out;
      for (Index i = 0; i < s.rank; ++i) {
        if (s[i] != 1) out.extent[out.rank++] = s[i];
      }
      return out;
    };
    if (squeezed(t.shape) == squeezed(expected)) return;
    fail<format_error>(t.where().c_str(), ": expected scales of shape ", expected.text().c_str(), ", got ",
                       t.shape.text().c_str());
  }

  StoredMatrix scaled(const Tensor& values, Index e, Index a, Index b) const {
    if (dtype_bits(values.dtype) != 8 || values.dtype == DType::BOOL || values.dtype == DType::F8_E8M0) {
      fail<format_error>(values.where().c_str(), ": expected 8-bit numbers for its scales, got ",
                         values.dtype_text().c_str());
    }
    require_shape_of(values, a, b);
    const Tensor& scales = tensor(layout_.scales, e);
    if (scales.dtype != DType::F8_E8M0) require_plain(scales);
    const Index block_rows = layout_.scale_rows == 0 ? a : (std::min)(a, layout_.scale_rows);
    const Index block_cols = layout_.scale_cols == 0 ? b : (std::min)(b, layout_.scale_cols);
    require_range("rows under a scale", block_rows, 1, PTRDIFF_MAX);
    require_range("columns under a scale", block_cols, 1, PTRDIFF_MAX);
    require_scales(scales, ceil_div(a, block_rows), ceil_div(b, block_cols));
    return ScaledMatrix{values.dtype,     piece(values, e), b,         scales.dtype,
                        piece(scales, e), block_rows,       block_cols};
  }

  StoredMatrix mxfp4(const Tensor& values, Index e, Index a, Index b) const {
    constexpr Index kGroup = Mxfp4Matrix::kGroup;
    if (b % kGroup != 0) {
      fail<format_error>(values.where().c_str(), ": expected rows of whole groups of ", kGroup,
                         " for MXFP4, got rows of ", b);
    }
    if (values.dtype == DType::F4) {
      require_shape_of(values, a, b);
    } else {
      if (values.dtype != DType::U8 && values.dtype != DType::I8) {
        fail<format_error>(values.where().c_str(), ": expected dtype U8, I8 or F4 for MXFP4, got ",
                           values.dtype_text().c_str());
      }
      Shape blocks = expected_shape(a, b / kGroup);  // [.., groups, 16], two numbers a byte
      blocks.extent[blocks.rank++] = kGroup / 2;
      if (!(values.shape == blocks)) require_shape_of(values, a, b / 2);
    }
    const Tensor& scales = tensor(layout_.scales, e);
    if (scales.dtype != DType::U8 && scales.dtype != DType::F8_E8M0) {
      fail<format_error>(scales.where().c_str(), ": expected dtype U8 or F8_E8M0 for scales of MXFP4, got ",
                         scales.dtype_text().c_str());
    }
    require_scales(scales, a, b / kGroup);
    return Mxfp4Matrix{piece(values, e), piece(scales, e), b};
  }

  StoredMatrix nvfp4(const Tensor& values, Index e, Index a, Index b) const {
    constexpr Index kGroup = Nvfp4Matrix::kGroup;
    if (b % kGroup != 0) {
      fail<format_error>(values.where().c_str(), ": expected rows of whole groups of ", kGroup,
                         " for NVFP4, got rows of ", b);
    }
    if (values.dtype != DType::U8) require_dtype(values, DType::I8);
    require_shape_of(values, a, b / 2);
    const Tensor& scales = tensor(layout_.scales, e);
    require_dtype(scales, DType::F8_E4M3);
    require_scales(scales, a, b / kGroup);
    const Tensor& global = tensor(layout_.global, e);
    require_plain(global);
    if (global.shape.elements() != 1) {
      fail<format_error>(global.where().c_str(), ": expected one number, got shape ",
                         global.shape.text().c_str());
    }
    float factor;
    decode_floats(global.dtype, global.data, 0, 1, &factor);
    if (!is_finite(factor) || !(factor > 0)) {
      fail<numeric_error>(global.where().c_str(), ": expected a finite number above 0, got ", factor);
    }
    return Nvfp4Matrix{piece(values, e), piece(scales, e), b, layout_.divides ? 1 / factor : factor};
  }

  StoredMatrix words(const Tensor& values, Index e) const {
    const bool awq = layout_.encoding == Encoding::awq;
    const Index out = choice_.stored, group = layout_.group == 0 ? in_ : layout_.group;
    require_range("group of inputs", group, 1, PTRDIFF_MAX / 2);
    if (out % 8 != 0 || in_ % group != 0 || (!awq && in_ % 8 != 0)) {
      fail<format_error>(values.where().c_str(), ": expected whole words of 8 and whole groups of ", group,
                         " inputs, got ", out, " outputs and ", in_, " inputs");
    }
    if (values.dtype != DType::U32) require_dtype(values, DType::I32);
    require_tensor_shape(values, awq ? Shape(in_, out / 8) : Shape(in_ / 8, out));
    const Tensor& zeros = tensor(layout_.zeros, e);
    if (zeros.dtype != DType::U32) require_dtype(zeros, DType::I32);
    require_tensor_shape(zeros, Shape(in_ / group, out / 8));
    const Tensor& scales = tensor(layout_.scales, e);
    require_plain(scales);
    require_tensor_shape(scales, Shape(in_ / group, out));
    constexpr std::string_view kWords = "qweight";
    const std::string base = values.name.substr(0, values.name.size() - kWords.size());
    if (const Tensor* const order = checkpoint_->find(base + "g_idx")) require_in_order(*order, group);
    return WordMatrix{awq,         values.data, zeros.data, scales.dtype,
                      scales.data, out,         group,      layout_.zero_offset};
  }
  /// GPTQ's groups of inputs: consecutive ones.
  void require_in_order(const Tensor& t, Index group) const {
    Buffer<Index> of(in_);
    read_integers(t, of.data(), in_);
    for (Index i = 0; i < in_; ++i) {
      if (of[i] == i / group) continue;
      fail<format_error>(t.where().c_str(), ": expected groups of consecutive inputs, got input ", i,
                         " in group ", of[i], " (act-order, which is not read)");
    }
  }

  StoredMatrix int4(const Tensor& values, Index e, Index a, Index b) const {
    require_range("int4 group", layout_.group, 1, PTRDIFF_MAX / 2);
    if (values.dtype != DType::I32) require_dtype(values, DType::U32);
    require_shape_of(values, a, ceil_div(b, Index{8}));
    const Tensor& scales = tensor(layout_.scales, e);
    require_plain(scales);
    require_scales(scales, a, ceil_div(b, layout_.group));
    check_int4_neighbours(values, a, b);
    return Int4Matrix{piece(values, e), b, scales.dtype, piece(scales, e), layout_.group};
  }
  /// compressed-tensors puts more beside "<base>weight_packed": the shape, which must agree, and what only
  /// asymmetric or reordered weights have.
  void check_int4_neighbours(const Tensor& values, Index a, Index b) const {
    constexpr std::string_view kPacked = "packed";
    const std::string_view name = values.name;
    if (name.size() < kPacked.size() || name.substr(name.size() - kPacked.size()) != kPacked) return;
    const std::string base(name.substr(0, name.size() - kPacked.size()));
    for (const char* const more : {"zero_point", "g_idx"}) {
      if (const Tensor* const t = checkpoint_->find(base + more)) {
        fail<format_error>(t->where().c_str(), ": expected symmetric groups in order, got a ", more);
      }
    }
    if (const Tensor* const t = checkpoint_->find(base + "shape")) {
      Index extent[2];
      read_integers(*t, extent, 2);
      if (extent[0] != a || extent[1] != b) {
        fail<format_error>(t->where().c_str(), ": expected ", a, " x ", b, ", got ", extent[0], " x ",
                           extent[1]);
      }
    }
  }

  /// Stored rows are outputs: straight into `to`. Else through a tile that is turned.
  template <class Stored>
  void copy(const Stored& stored, const MatrixView<float>& to) const noexcept {
    if (!layout_.transposed) {
      for (Index o = 0; o < out_; ++o) stored.decode(choice_(o), 0, in_, to.row(o));
      return;
    }
    constexpr Index kRows = 32, kOutputs = 64;
    float tile[kRows][2 * kOutputs];
    for (Index o = 0; o < out_; o += kOutputs) {
      const Index outputs = (std::min)(kOutputs, out_ - o);
      for (Index i = 0; i < in_; i += kRows) {
        const Index rows = (std::min)(kRows, in_ - i);
        for (Index r = 0; r < rows; ++r) {
          stored.decode(i + r, choice_(o), choice_(o + outputs - 1) + 1, tile[r]);
        }
        for (Index j = 0; j < outputs; ++j) {
          float* const row = to.row(o + j) + i;
          for (Index r = 0; r < rows; ++r) row[r] = tile[r][j * choice_.step];
        }
      }
    }
  }

  const Checkpoint* checkpoint_;
  MatrixLayout layout_;
  Index experts_, out_, in_;
  impl::OutputChoice choice_;
  bool each_ = false;  // a tensor per expert
};

}  // namespace io
MOE_NAMESPACE_END
