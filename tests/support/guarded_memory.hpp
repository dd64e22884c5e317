// What is handed to a call, each buffer between guard cells; afterwards it says which bytes are not as they
// were.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "moe/core/view.hpp"

namespace test {

using moe::Index;

/// Guards are bytes of 0xFF: NaN as a number, -1 as an index, no bool at all.
class GuardedMemory {
 public:
  static constexpr std::size_t kGuard = 64;

  /// n values, of bytes 0xFF; `name` in what `changed` says.
  template <class T>
  T* take(std::string name, Index n) {
    static_assert(std::is_trivially_copyable_v<T>);
    Block& block = blocks_.emplace_back();
    block.name = std::move(name);
    block.now.assign(2 * kGuard + static_cast<std::size_t>(n) * sizeof(T), kFill);
    return reinterpret_cast<T*>(block.now.data() + kGuard);
  }
  /// Guard cells between the rows as well; elements cycle through `values`, or stay NaN.
  template <class Real>
  moe::MatrixView<Real> rows(std::string name, Index rows, Index cols, const std::vector<Real>& values = {}) {
    constexpr Index kGap = 3;
    const Index stride = cols + kGap;
    const moe::MatrixView<Real> view(take<Real>(std::move(name), rows * stride), rows, cols, stride);
    for (Index i = 0; i < rows && !values.empty(); ++i) {
      for (Index j = 0; j < cols; ++j)
        view(i, j) = values[static_cast<std::size_t>(i * cols + j) % values.size()];
    }
    return view;
  }
  template <class T>
  T* copy(std::string name, const std::vector<T>& values) {
    T* const to = take<T>(std::move(name), static_cast<Index>(values.size()));
    std::copy(values.begin(), values.end(), to);
    return to;
  }

  void remember() {
    for (Block& block : blocks_) block.then = block.now;
  }
  /// Since remember(): the names of the buffers that differ; "" if none does.
  std::string changed() const {
    std::string names;
    for (const Block& block : blocks_) {
      if (block.now == block.then) continue;
      const auto at =
          std::mismatch(block.now.begin(), block.now.end(), block.then.begin()).first - block.now.begin();
      names += " " + block.name + " at byte " + std::to_string(at - static_cast<std::ptrdiff_t>(kGuard));
    }
    return names;
  }
  /// The elements of an output, which then are as remembered: what else has changed was not to be written.
  template <class Real>
  std::vector<Real> take_back(const moe::MatrixView<Real>& view) {
    std::vector<Real> values;
    for (Index i = 0; i < view.rows; ++i) values.insert(values.end(), view.row(i), view.row(i) + view.cols);
    for (Index i = 0; i < view.rows && view.cols > 0; ++i)
      restore(view.row(i), static_cast<std::size_t>(view.cols) * sizeof(Real));
    return values;
  }

  /// `bytes` from there on as remembered.
  void restore(void* from, std::size_t bytes) {
    auto* const first = static_cast<std::byte*>(from);
    for (Block& block : blocks_) {
      if (first < block.now.data() || first >= block.now.data() + block.now.size()) continue;
      std::memcpy(first, block.then.data() + (first - block.now.data()), bytes);
    }
  }

 private:
  static constexpr std::byte kFill{0xFF};
  struct Block {
    std::string name;
    std::vector<std::byte> now, then;
  };

  std::deque<Block> blocks_;
};

}  // namespace test
