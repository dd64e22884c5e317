// GGUF files written by hand.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "io/file/temporary_folder.hpp"

namespace test {

/// Collects named values, descriptions of tensors and their data.
class GgufBytes {
 public:
  std::uint32_t version = 3;
  std::uint64_t extra_values = 0, extra_tensors = 0;  // claimed but not there

  static std::string text(const std::string& s) { return little(s.size(), 8) + s; }

  GgufBytes& value(const std::string& key, std::uint32_t type, const std::string& bytes) {
    values_ += text(key) + little(type, 4) + bytes;
    ++value_count_;
    return *this;
  }
  /// `extents`: fastest first.
  GgufBytes& tensor(const std::string& name, std::initializer_list<std::uint64_t> extents, std::uint32_t type,
                    std::uint64_t offset) {
    tensors_ += text(name) + little(extents.size(), 4);
    for (const std::uint64_t n : extents) tensors_ += little(n, 8);
    tensors_ += little(type, 4) + little(offset, 8);
    ++tensor_count_;
    return *this;
  }
  /// Appends data; returns the offset at which they begin.
  std::uint64_t data(const std::string& bytes) {
    data_.append((32 - data_.size() % 32) % 32, '\0');
    const std::uint64_t offset = data_.size();
    data_ += bytes;
    return offset;
  }
  std::string all() const {
    std::string out = "GGUF" + little(version, 4) + little(tensor_count_ + extra_tensors, 8) +
                      little(value_count_ + extra_values, 8) + values_ + tensors_;
    if (!data_.empty()) out.append((32 - out.size() % 32) % 32, '\0');
    return out + data_;
  }

 private:
  std::string values_, tensors_, data_;
  std::uint64_t value_count_ = 0, tensor_count_ = 0;
};

/// Values of every type, tensors of a block type, a plain type and one that cannot be decoded (last).
inline GgufBytes gguf_sample() {
  GgufBytes b;
  b.value("a.u8", 0, little(200, 1)).value("a.i8", 1, little(200, 1)).value("a.u16", 2, little(60000, 2));
  b.value("a.i16", 3, little(60000, 2)).value("a.u32", 4, little(4000000000, 4));
  b.value("a.i32", 5, little(4000000000, 4)).value("a.f32", 6, little(0x3FC00000, 4));
  b.value("a.bool", 7, little(1, 1)).value("a.string", 8, GgufBytes::text("llama"));
  b.value("a.u64", 10, little(~std::uint64_t{0}, 8)).value("a.i64", 11, little(~std::uint64_t{0}, 8));
  b.value("a.f64", 12, little(0x3FF8000000000000, 8));
  b.value("a.list", 9, little(4, 4) + little(2, 8) + little(1, 4) + little(2, 4));
  b.value("a.words", 9, little(8, 4) + little(2, 8) + GgufBytes::text("x") + GgufBytes::text(""));
  b.tensor("q", {32, 2}, 8, b.data(std::string(68, 'q')));
  b.tensor("k", {4, 3, 2}, 0, b.data(std::string(96, 'k')));
  b.tensor("other", {256}, 16, b.data(std::string(144, 'o')));
  return b;
}

}  // namespace test
