// Text to learn from, and the batches cut out of it.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "moe/core/random.hpp"
#include "moe/core/types.hpp"

namespace example {

using moe::Index;

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

/// The sources and documents of a repository, in the order of their paths.
inline std::string read_repository(const std::filesystem::path& root) {
  std::vector<std::filesystem::path> paths;
  for (const char* folder : {"bench", "docs", "examples", "include", "tests"}) {
    if (!std::filesystem::is_directory(root / folder)) continue;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
      const std::string extension = entry.path().extension().string();
      if (extension == ".cpp" || extension == ".hpp" || extension == ".md") paths.push_back(entry.path());
    }
  }
  std::sort(paths.begin(), paths.end());
  std::string text;
  for (const auto& path : paths) text += read_file(path);
  return text;
}

/// Sequences of `length` bytes each: the model reads the bytes up to and including position[t] and predicts
/// the next.
struct Batch {
  const unsigned char* text = nullptr;
  Index length = 0;
  std::vector<Index> position;         // [T]
  std::vector<moe::TokenId> token_id;  // [T] the byte at position[t]

  Index tokens() const { return static_cast<Index>(position.size()); }
  unsigned char byte(Index t, Index back) const { return text[position[static_cast<std::size_t>(t)] - back]; }
  unsigned char next(Index t) const { return text[position[static_cast<std::size_t>(t)] + 1]; }

  void add_sequence(Index first) {
    for (Index p = first; p < first + length; ++p) {
      position.push_back(p);
      token_id.push_back(text[p]);
    }
  }
};

/// A text whose last tenth is held out.
class Text {
 public:
  /// Batches are of `sequences` sequences of `length` bytes; the model sees `context` bytes at a time. At
  /// most `most` batches of the held-out part are used.
  Text(std::string bytes, Index context, Index sequences, Index length, Index most)
      : bytes_(std::move(bytes)), context_(context), sequences_(sequences), length_(length), most_(most) {
    held_out_ = size() - size() / 10;
    if (held_out_batches() < 1) {
      throw std::runtime_error("the text is too short: " + std::to_string(size()) + " bytes");
    }
  }

  Index size() const { return static_cast<Index>(bytes_.size()); }
  Index batch_tokens() const { return sequences_ * length_; }
  Index held_out_batches() const { return std::min(most_, (size() - 1 - held_out_) / batch_tokens()); }

  /// Sequences from anywhere in the part that is not held out; which ones depends on seed and step alone.
  Batch training(std::uint64_t seed, std::uint64_t step) const {
    Batch batch = empty();
    const moe::KeyedRandom random(seed, step, moe::DrawStream::user);
    const Index first = context_ - 1, last = held_out_ - length_ - 1;
    for (Index s = 0; s < sequences_; ++s) {
      const auto draw = random.bits(static_cast<std::uint64_t>(s), 0);
      batch.add_sequence(first + static_cast<Index>(draw % static_cast<std::uint64_t>(last - first + 1)));
    }
    return batch;
  }

  /// Batch i in [0, held_out_batches()): the held-out part, cut into sequences.
  Batch held_out(Index i) const {
    Batch batch = empty();
    for (Index s = 0; s < sequences_; ++s) batch.add_sequence(held_out_ + (i * sequences_ + s) * length_);
    return batch;
  }

  /// How often each byte occurs in the part that is not held out.
  std::vector<std::int64_t> counts() const {
    std::vector<std::int64_t> n(256);
    for (Index i = 0; i < held_out_; ++i)
      ++n[static_cast<unsigned char>(bytes_[static_cast<std::size_t>(i)])];
    return n;
  }

 private:
  Batch empty() const {
    Batch batch;
    batch.text = reinterpret_cast<const unsigned char*>(bytes_.data());
    batch.length = length_;
    return batch;
  }

  std::string bytes_;
  Index context_;
  Index sequences_;
  Index length_;
  Index most_;
  Index held_out_ = 0;  // where the held-out part begins
};

}  // namespace example
