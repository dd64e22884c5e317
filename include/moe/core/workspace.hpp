// Scratch memory of a call. Each stage takes its arrays from an Arena; the same code run on a measuring arena
// tells how much that is, so that sizing and carving cannot disagree.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

/// Hands out aligned arrays from one block, or only counts what they would take.
class Arena {
 public:
  /// Measuring: `take` returns null and counts.
  Arena() noexcept = default;
  Arena(std::byte* block, Index bytes) noexcept : block_(block), size_(bytes), measuring_(false) {}

  bool measuring() const noexcept { return measuring_; }
  /// The most that was taken at once, with the slack that a block of any alignment needs.
  Index bytes() const noexcept { return peak_ + kAlignment; }

  /// Everything taken after mark() is given back by rewind(mark).
  Index mark() const noexcept { return used_; }
  void rewind(Index mark) noexcept {
    MOE_ASSERT(mark >= 0 && mark <= used_);
    used_ = mark;
  }

  /// n uninitialised values, aligned to a cache line. Throws workspace_error when the block is too small.
  template <class T>
  T* take(Index n) {
    static_assert(std::is_trivially_copyable_v<T>, "moe: a workspace holds plain values only");
    const Index bytes = checked_product("workspace bytes", n, Index{sizeof(T)});
    if (bytes > PTRDIFF_MAX - 2 * kAlignment - used_) {
      fail<size_error>("workspace bytes: expected a size that fits 63 bits, got more than ", used_, " + ",
                       bytes);
    }
    const Index begin = used_;
    used_ += round_up(bytes, kAlignment);
    if (used_ > peak_) peak_ = used_;
    if (measuring()) return nullptr;
    const Index skew =
        static_cast<Index>((kAlignment - reinterpret_cast<std::uintptr_t>(block_) % kAlignment) % kAlignment);
    if (skew + begin + bytes > size_) {
      fail<workspace_error>("workspace: expected at least ", skew + begin + bytes, " bytes, got ", size_);
    }
    return reinterpret_cast<T*>(block_ + skew + begin);
  }

 private:
  std::byte* block_ = nullptr;
  Index size_ = 0;
  Index used_ = 0;
  Index peak_ = 0;
  bool measuring_ = true;
};

/// Memory for one call at a time: its own, growing when a call needs more, or a fixed block of the caller.
class Workspace {
 public:
  Workspace() noexcept = default;
  Workspace(Workspace&&) noexcept = default;  // arenas stay valid; a copy's would not
  Workspace& operator=(Workspace&&) noexcept = default;
  /// Fixed: a call that needs more throws workspace_error and writes nothing.
  explicit Workspace(std::span<std::byte> block) noexcept
      : fixed_(block.data()), fixed_bytes_(static_cast<Index>(block.size())), is_fixed_(true) {}

  /// An arena of at least `bytes`, valid until the next call.
  Arena arena(Index bytes) {
    if (is_fixed_) {
      if (bytes > fixed_bytes_) {
        fail<workspace_error>("workspace: expected at least ", bytes, " bytes, got ", fixed_bytes_,
                              "; ask workspace_bytes()");
      }
      return Arena(fixed_, fixed_bytes_);
    }
    if (own_.size() < bytes) own_.resize(bytes);
    return Arena(own_.data(), own_.size());
  }

  /// The same for a layer's call; the error says what to ask workspace_bytes() for.
  Arena arena(Index bytes, Mode mode, Index concurrency) {
    if (is_fixed_ && bytes > fixed_bytes_) {
      const char* const name = mode == Mode::training ? "training" : "inference";
      fail<workspace_error>("workspace: expected at least ", bytes, " bytes for ", name, " with ",
                            concurrency, concurrency == 1 ? " worker" : " workers", ", got ", fixed_bytes_,
                            "; ask workspace_bytes(shape, Mode::", name, ", ", concurrency, ")");
    }
    return arena(bytes);
  }

  /// Grows to `bytes` now (ask workspace_bytes()), so that no call up to that size allocates.
  void reserve(Index bytes) { arena(bytes); }

 private:
  Buffer<std::byte> own_;
  std::byte* fixed_ = nullptr;
  Index fixed_bytes_ = 0;
  bool is_fixed_ = false;
};

MOE_NAMESPACE_END
