// Bytes as a safetensors file: refused with format_error, or every tensor lies inside and can be decoded.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "moe/io/safetensors/reader.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto* const bytes = reinterpret_cast<const std::byte*>(data);
  try {
    const auto file = moe::io::SafetensorsFile::from_bytes({bytes, size}, "input");
    for (const moe::io::Tensor& t : file.tensors()) {
      if (t.data < bytes || t.data + t.bytes > bytes + size) std::abort();
      const moe::Index n = t.shape.elements();
      if (!moe::io::is_decodable(t.dtype)) continue;
      float values[64];
      for (moe::Index i = 0; i < n; i += 64) {
        moe::io::decode_floats(t.dtype, t.data, i, n - i < 64 ? n - i : 64, values);
      }
      if (file.find(t.name) != &t) std::abort();
    }
  } catch (const moe::format_error&) {
  }
  return 0;
}
