// Bytes as a GGUF file: refused with format_error, or every tensor lies inside and can be decoded, and a
// layer of experts can be read or is refused.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "moe/core/buffer.hpp"
#include "moe/io/gguf/decode.hpp"
#include "moe/io/gguf/experts.hpp"
#include "moe/io/gguf/reader.hpp"

namespace {

void read_experts(const moe::io::GgufFile& file) {
  const moe::io::GgufExperts experts(file, 0);
  if (experts.width() > 4096 || experts.hidden() > 4096) return;
  moe::Buffer<float> values(experts.width() * experts.hidden());
  for (moe::Index p = 0; p < moe::io::kParts; ++p) {
    const auto part = static_cast<moe::io::ExpertMatrix>(p);
    if (experts.weight(part) == nullptr) continue;
    experts.read(experts.experts() - 1, part,
                 moe::MatrixView<float>(values.data(), experts.outputs(part), experts.inputs(part)));
    if (experts.has_bias(part)) experts.read_bias(experts.experts() - 1, part, values.data());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto* const bytes = reinterpret_cast<const std::byte*>(data);
  try {
    const auto file = moe::io::GgufFile::from_bytes({bytes, size}, "input");
    static_cast<void>(file.optional<moe::Index>("llama.expert_count"));
    for (const moe::io::GgufTensor& t : file.tensors()) {
      const moe::io::GgmlBlock block = moe::io::ggml_block(t.type);
      if (block.numbers == 0 || t.bytes == 0) continue;
      if (t.data < bytes || t.data + t.bytes > bytes + size) std::abort();
      const moe::Index row = t.shape[t.shape.rank - 1], rows = t.shape.elements() / row;
      float values[64];
      for (moe::Index i = 0; i < row; i += 64) {
        moe::io::decode_ggml_row(t.type, t.data + (rows - 1) * (row / block.numbers * block.bytes), i,
                                 row - i < 64 ? row : i + 64, values);
      }
    }
    read_experts(file);
  } catch (const moe::format_error&) {
  }
  return 0;
}
