// The experts of one layer of a GGUF file, as a source for load_experts().
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "moe/core/check.hpp"
#include "moe/core/view.hpp"
#include "moe/io/gguf/decode.hpp"
#include "moe/io/gguf/reader.hpp"
#include "moe/io/layout.hpp"
#include "moe/io/quantised.hpp"

MOE_NAMESPACE_BEGIN
namespace io {

/// Rows first .. first + out - 1 of [.., in] where their codes and scales can be repacked without loss: Q8_0,
/// Q4_0, Q4_K and Q6_K.
inline std::optional<StoredCodes> ggml_codes(const GgufTensor& t, Index first, Index out, Index in) {
  const GgmlBlock block = ggml_block(t.type);
  if (block.numbers == 0) return std::nullopt;
  const Index row = in / block.numbers * block.bytes;
  const std::byte* const rows = t.data + first * row;
  if (t.type == GgmlType::Q4_K || t.type == GgmlType::Q6_K) {
    const bool four = t.type == GgmlType::Q4_K;
    return CodeBlocks{
        out, in, four ? 4 : 6, rows, row, block.bytes, four ? impl::read_q4_k : impl::read_q6_k};
  }
  if (t.type != GgmlType::Q8_0 && t.type != GgmlType::Q4_0) return std::nullopt;
  return CodeGroups{.out = out,
                    .in = in,
                    .bits = t.type == GgmlType::Q8_0 ? 8 : 4,
                    .scale_dtype = DType::F16,
                    .codes = rows + 2,
                    .code_row = row,
                    .code_group = block.bytes,
                    .split = true,
                    .scales = rows,
                    .scale_row = row,
                    .scale_group = block.bytes};
}

/// Tensors "blk.<layer>.ffn_{gate,up,down}_exps.weight" of [E, out, in] (and ".bias" of [E, out]), or gate
/// and up in one "ffn_gate_up_exps.weight" of [E, 2 F, D], gate first; without the gate's, up and down are
/// fc1 and fc2. A ".scale" of [E] multiplies the matrices of an expert and not the biases, which are added
/// behind it (as in llama.cpp). E, D and F are what the tensors say. Refers to the file, which must outlive
/// it.
class GgufExperts {
 public:
  /// `scales_down`: false where "ffn_down_exps.scale" is read by somebody else (Gemma 4's router). Throws
  /// format_error naming file and tensor where one is missing, of a type that cannot be decoded, or of a
  /// shape that does not go with the others.
  GgufExperts(const GgufFile& file, Index layer, bool scales_down = true) : file_(&file) {
    const std::string prefix = "blk." + std::to_string(layer) + ".ffn_";
    merged_ = file.find(prefix + "gate_up_exps.weight") != nullptr;
    gated_ = merged_ || file.find(prefix + "gate_exps.weight") != nullptr;
    const char* const names[] = {merged_ ? "gate_up" : "gate", merged_ ? "gate_up" : "up", "down", "up",
                                 "down"};
    for (Index p = gated_ ? 0 : 3; p < (gated_ ? 3 : kParts); ++p) {
      const std::string base = prefix + names[p] + "_exps";
      weight_[p] = &file.at(base + ".weight");
      bias_[p] = file.find(base + ".bias");
      scale_[p] = file.find(base + ".scale");
      require_known(*weight_[p]);
    }
    require_nothing_else(prefix);
    const GgufTensor& down = *weight(gated_ ? ExpertMatrix::down : ExpertMatrix::fc2);
    const GgufTensor& up = *weight(gated_ ? ExpertMatrix::up : ExpertMatrix::fc1);
    if (up.shape.rank != 3 || up.shape.elements() == 0) {
      fail_at(up, "shape [experts, hidden, width]", up.shape.text());
    }
    if (down.shape.rank != 3) fail_at(down, "shape [experts, width, hidden]", down.shape.text());
    if (!scales_down) scale_[index(gated_ ? ExpertMatrix::down : ExpertMatrix::fc2)] = nullptr;
    experts_ = up.shape[0], hidden_ = merged_ ? down.shape[2] : up.shape[1], width_ = up.shape[2];
    for (Index p = 0; p < kParts; ++p) {
      const ExpertMatrix part = static_cast<ExpertMatrix>(p);
      if (weight_[p] == nullptr) continue;
      const Shape wanted(experts_, stored_outputs(part), inputs(part));
      if (!(weight_[p]->shape == wanted)) {
        fail_at(*weight_[p], "shape " + wanted.text(), weight_[p]->shape.text());
      }
      if (scale_[p] != nullptr) {
        require_known(*scale_[p]);
        const Shape each(experts_);
        if (!(scale_[p]->shape == each)) fail_at(*scale_[p], "shape " + each.text(), scale_[p]->shape.text());
      }
      if (bias_[p] == nullptr) continue;
      require_known(*bias_[p]);
      const Shape row(experts_, stored_outputs(part));
      if (!(bias_[p]->shape == row)) fail_at(*bias_[p], "shape " + row.text(), bias_[p]->shape.text());
    }
  }

  Index experts() const noexcept { return experts_; }
  Index width() const noexcept { return width_; }
  Index hidden() const noexcept { return hidden_; }
  bool is_gated() const noexcept { return gated_; }
  bool has_bias(ExpertMatrix part) const noexcept { return bias_[index(part)] != nullptr; }
  Index outputs(ExpertMatrix part) const noexcept {
    return part == ExpertMatrix::down || part == ExpertMatrix::fc2 ? width_ : hidden_;
  }
  Index inputs(ExpertMatrix part) const noexcept {
    return part == ExpertMatrix::down || part == ExpertMatrix::fc2 ? hidden_ : width_;
  }
  /// Null for a part that these experts do not have.
  const GgufTensor* weight(ExpertMatrix part) const noexcept { return weight_[index(part)]; }

  /// to [F, D], or [D, F] of down and fc2.
  void read(Index e, ExpertMatrix part, const MatrixView<float>& to) const {
    require_part(e, part, weight(part));
    require_shape("matrix of an expert", to, outputs(part), inputs(part));
    const GgufTensor& t = *weight(part);
    const GgmlBlock block = ggml_block(t.type);
    const Index row = to.cols / block.numbers * block.bytes;
    const std::byte* const first = t.data + (e * stored_outputs(part) + first_output(part)) * row;
    float scale = 1;
    if (const GgufTensor* const s = scale_[index(part)]) decode_ggml_row(s->type, s->data, e, e + 1, &scale);
    for (Index o = 0; o < to.rows; ++o) {
      decode_ggml_row(t.type, first + o * row, 0, to.cols, to.row(o));
      for (Index i = 0; scale != 1 && i < to.cols; ++i) to.row(o)[i] *= scale;
    }
  }

  /// to[F], or to[D] of down and fc2.
  void read_bias(Index e, ExpertMatrix part, float* to) const {
    require_part(e, part, bias_[index(part)]);
    const GgufTensor& t = *bias_[index(part)];
    const Index first = first_output(part);
    decode_ggml_row(t.type, t.data + e * (t.bytes / experts_), first, first + outputs(part), to);
  }

  /// As ggml_codes(), unless the expert has a scale.
  std::optional<StoredCodes> groups(Index e, ExpertMatrix part) const {
    require_part(e, part, weight(part));
    const GgufTensor& t = *weight(part);
    if (scale_[index(part)] != nullptr) return std::nullopt;
    return ggml_codes(t, e * stored_outputs(part) + first_output(part), outputs(part), inputs(part));
  }

  /// Throws format_error for a tensor of a type that cannot be decoded.
  static void require_known(const GgufTensor& t) {
    if (ggml_block(t.type).numbers > 0) return;
    const std::string name = ggml_type_name(t.type);
    fail_at(t, "type F32, F16, BF16, MXFP4, IQ4_NL, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or Q2_K to Q6_K",
            name == "unknown" ? "type " + std::to_string(static_cast<std::uint32_t>(t.type)) : name);
  }

  /// Lets go of the file's pages behind expert e.
  void release(Index e) const noexcept {
    for (const GgufTensor* const t : weight_) {
      if (t == nullptr || t->file == nullptr) continue;
      const Index bytes = t->bytes / experts_;
      t->file->release(t->data + e * bytes, bytes);
    }
  }

 private:
  static Index index(ExpertMatrix part) noexcept { return static_cast<Index>(part); }
  /// Of the tensor that holds the part, and which of them are its first.
  Index stored_outputs(ExpertMatrix part) const noexcept {
    return merged_ && part <= ExpertMatrix::up ? 2 * hidden_ : outputs(part);
  }
  Index first_output(ExpertMatrix part) const noexcept {
    return merged_ && part == ExpertMatrix::up ? hidden_ : 0;
  }

  /// Tensors of experts that would be left out: a gate without weights, or both forms of one matrix.
  void require_nothing_else(const std::string& prefix) const {
    for (const GgufTensor& t : file_->tensors()) {
      const std::string_view name = t.name;
      if (!name.starts_with(prefix)) continue;
      const std::string_view tail = name.substr(prefix.size());
      bool read = true;
      for (const char* const matrix : {"gate_exps.", "up_exps.", "gate_up_exps.", "down_exps."}) {
        read = read && !tail.starts_with(matrix);
      }
      for (Index p = 0; p < kParts; ++p) read = read || &t == weight_[p] || &t == bias_[p] || &t == scale_[p];
      if (!read) {
        fail_at(t,
                merged_  ? "no such tensor beside ffn_gate_up_exps.weight"
                : gated_ ? "no such tensor beside ffn_gate_exps.weight"
                         : "no such tensor without ffn_gate_exps.weight or ffn_gate_up_exps.weight",
                "one that would not be read");
      }
    }
  }

  void require_part(Index e, ExpertMatrix part, const GgufTensor* tensor) const {
    require_range("expert", e, 0, experts_ - 1);
    if (tensor == nullptr) {
      fail<config_error>(part_name(part), ": expected a part of the experts of ", file_->name().c_str(),
                         ", got one they do not have");
    }
  }
  [[noreturn]] static void fail_at(const GgufTensor& t, const std::string& expected,
                                   const std::string& found) {
    fail<format_error>(t.where().c_str(), ": expected ", expected.c_str(), ", got ", found.c_str());
  }

  const GgufFile* file_;
  const GgufTensor* weight_[kParts] = {};
  const GgufTensor* bias_[kParts] = {};
  const GgufTensor* scale_[kParts] = {};
  bool gated_ = false, merged_ = false;
  Index experts_ = 0, width_ = 0, hidden_ = 0;
};

}  // namespace io
MOE_NAMESPACE_END
