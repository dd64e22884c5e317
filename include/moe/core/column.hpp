// One entry for every row (or expert, or segment) of a call: borrowed where it is stored as the library reads
// it, converted into memory of the column's own where it is not.
#pragma once

#include <concepts>
#include <cstddef>
#include <iterator>
#include <limits>
#include <type_traits>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

template <class R>
using EntryOf = std::remove_cvref_t<decltype(*std::begin(std::declval<const R&>()))>;

/// Entries of U become T: the same, integers into others, and numbers into double.
template <class U, class T>
concept BecomesEntry = std::is_same_v<U, T> ||(std::is_integral_v<U>&& std::is_integral_v<T>) ||
                       (std::is_arithmetic_v<U> && std::is_floating_point_v<T>);

template <class R, class T>
concept EntriesOf = requires(const R& range) {
  { std::size(range) } -> std::convertible_to<std::size_t>;
  requires BecomesEntry<EntryOf<R>, T>;
};

/// One array of T. Not std::vector<bool>, and not Eigen's, which may have a stride.
template <class R, class T>
concept StoredAs = std::is_same_v<EntryOf<R>, T> && requires(R& range) {
  { std::data(range) } -> std::convertible_to<const T*>;
  requires(!requires { range.innerStride(); });
};

/// Whether its end is that of its entries: true of arrays and containers, false of spans.
template <class R, class T>
concept OwnsEntries = requires(R& range) {
  { std::data(range) } -> std::same_as<T*>;
  { std::data(std::as_const(range)) } -> std::same_as<const T*>;
};

template <class T, class U>
constexpr bool fits(U value) noexcept {
  if constexpr (std::is_floating_point_v<T> || std::is_same_v<T, U> || std::is_same_v<U, bool>) {
    return true;
  } else if constexpr (std::is_same_v<T, bool>) {
    return value == U{0} || value == U{1};
  } else {
    return std::in_range<T>(+value);
  }
}

}  // namespace impl

/// `size()` values of T. Arrays, vectors and spans of T are borrowed; entries of other types
/// (std::vector<bool>, offsets of int, 64-bit ids, Eigen's vectors) are converted, once, into memory that the
/// column keeps. A copy of such a column has memory of its own, `borrow()` has not. Empty: not given.
template <class T>
class Column {
 public:
  using value_type = T;

  Column() noexcept = default;
  /// Borrowed.
  Column(const T* data, std::size_t size) noexcept : data_(data), size_(size) {}
  /// Throws route_error for a value that T does not hold. A temporary that would have to be borrowed does not
  /// compile.
  template <class R>
  requires(!std::is_same_v<std::remove_cvref_t<R>, Column> &&
           impl::EntriesOf<std::remove_reference_t<R>, T>)  //
      Column(R&& range)                                     // NOLINT(google-explicit-constructor)
      : size_(static_cast<std::size_t>(std::size(range))) {
    using Range = std::remove_reference_t<R>;
    if constexpr (impl::StoredAs<Range, T>) {
      static_assert(std::is_lvalue_reference_v<R> || !impl::OwnsEntries<std::remove_cv_t<Range>, T>,
                    "moe: a column of a temporary vector would dangle; give the vector a name");
      data_ = std::data(range);
    } else {
      convert(range);
    }
  }

  Column(const Column& other) : data_(other.data_), size_(other.size_), own_(other.own_) {
    if (!own_.empty()) data_ = own_.data();
  }
  Column(Column&& other) noexcept { swap(other); }
  Column& operator=(Column other) noexcept {
    swap(other);
    return *this;
  }

  /// The same entries, as long as this column is there.
  Column borrow() const noexcept { return {data_, size_}; }

  const T* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  const T& operator[](Index i) const noexcept {
    MOE_ASSERT(i >= 0 && i < static_cast<Index>(size_));
    return data_[i];
  }
  const T* begin() const noexcept { return data_; }
  const T* end() const noexcept { return data_ + size_; }

 private:
  template <class R>
  void convert(const R& range) {
    T* to = own_.resize(static_cast<Index>(size_));
    data_ = to;
    for (const impl::EntryOf<R> value : range) {
      if (!impl::fits<T>(value)) {
        using Limits = std::numeric_limits<T>;
        fail<route_error>("column: expected entries in [", (Limits::min)(), ", ", (Limits::max)(), "], got ",
                          value, " at position ", to - data_);
      }
      *to++ = static_cast<T>(value);
    }
  }
  void swap(Column& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    own_.swap(other.own_);
  }

  const T* data_ = nullptr;
  std::size_t size_ = 0;
  Buffer<T> own_;  // empty while borrowed
};

MOE_NAMESPACE_END
