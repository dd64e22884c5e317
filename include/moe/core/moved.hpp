// What a move leaves behind, and whose a tape is. A part that was moved from has no sizes, and what holds
// parts has no number: a call finds that out before it reads a parameter that is no longer there.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// A plain value that moves as a container does: T{} is left behind.
template <class T>
class Movable {
 public:
  Movable() noexcept = default;
  Movable(const T& value) noexcept : value_(value) {}  // NOLINT(google-explicit-constructor)
  Movable(const Movable&) noexcept = default;
  Movable(Movable&& other) noexcept : value_(std::exchange(other.value_, T{})) {}
  Movable& operator=(const Movable&) noexcept = default;
  Movable& operator=(Movable&& other) noexcept {
    value_ = std::exchange(other.value_, T{});
    return *this;
  }
  ~Movable() = default;

  operator const T&() const noexcept { return value_; }  // NOLINT(google-explicit-constructor)
  const T& get() const noexcept { return value_; }
  const T* operator->() const noexcept { return &value_; }

 private:
  T value_{};
};

inline std::atomic<std::uint64_t> last_identity{0};

/// Throws state_error unless `there`.
inline void require_there(const char* what, bool there) {
  if (!there) fail<state_error>(what, ": expected one with its parts, got one that was moved from");
}

/// Number of an object that writes tapes, which no two have: a copy is another object, a moved one keeps its
/// number, what it is moved from has none.
class Identity {
 public:
  Identity() noexcept : number_(++last_identity) {}
  Identity(const Identity& other) noexcept : number_(other.fresh()) {}
  Identity(Identity&&) noexcept = default;
  Identity& operator=(const Identity& other) noexcept {
    if (this != &other) number_ = other.fresh();
    return *this;
  }
  Identity& operator=(Identity&&) noexcept = default;
  ~Identity() = default;

  std::uint64_t number() const noexcept { return number_; }
  explicit operator bool() const noexcept { return number_ != 0; }

 private:
  std::uint64_t fresh() const noexcept { return number_ == 0 ? 0 : ++last_identity; }

  Movable<std::uint64_t> number_;
};

/// On a tape: who wrote the call on it. None at first, and when moved from.
class Writer {
 public:
  explicit operator bool() const noexcept { return number_ != 0; }
  void clear() noexcept { number_ = 0; }
  void set(const Identity& writer) noexcept { number_ = writer.number(); }
  /// Throws state_error unless that is `reader`; `what` is a "tape" or "router tape".
  void require(const char* what, const Identity& reader) const {
    if (!*this) fail<state_error>(what, ": expected a tape of a finished forward_train, got an empty one");
    if (number_ != reader.number()) {
      fail<state_error>(what, ": expected that of a forward_train of the same object, got another one's");
    }
  }

 private:
  Movable<std::uint64_t> number_;
};

/// What a part kept of a forward_train, n values. Throws state_error for another number, which is the tape of
/// another part or batch.
template <class T>
MOE_NOINLINE const T* taped(const char* part, const Buffer<T>& kept, Index n) {
  if (kept.size() != n) {
    fail<state_error>("tape of ", part, ": expected that of this part and batch, ", n, " values, got ",
                      kept.size());
  }
  return kept.data();
}

}  // namespace impl

MOE_NAMESPACE_END
