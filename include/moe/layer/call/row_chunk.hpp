// Some rows of a call whose rows do not feel each other, as a call of their own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "moe/core/input.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// Rows [first, first + count) of a matrix; of none, or of one without columns, there is no data.
template <class T>
ConstMatrixView<T> rows_from(const ConstMatrixView<T>& all, Index first, Index count) noexcept {
  ConstMatrixView<T> some = all;
  if (all.data != nullptr) some.data = all.row(first);
  if (all.rows > 0) some.rows = count;
  return some;
}

/// The rows [first, first + count) of `in`, with what is told about them, in one segment. They draw by the
/// keys that they have in the whole call: `keys` [count], filled if it has none. Borrows from both.
template <class Real>
RouterInput<Real> rows_of_call(const RouterInput<Real>& in, Index first, Index count, std::uint64_t* keys) {
  RouterInput<Real> some;
  InputColumns<Real>::each([&](const char*, auto column, ColumnSize size) {
    const auto& all = in.*column;
    if constexpr (requires { all.borrow(); }) {
      some.*column = all.borrow();
      if (size == ColumnSize::tokens && !all.empty()) {
        some.*column = {all.data() + first, static_cast<std::size_t>(count)};
      }
    } else {
      const bool for_all =
          size == ColumnSize::experts || (size == ColumnSize::one_or_tokens && all.rows == 1);
      some.*column = for_all ? all : rows_from(all, first, count);
    }
  });
  if (in.row_key.empty()) {
    for (Index i = 0; i < count; ++i) keys[i] = static_cast<std::uint64_t>(first + i);
    some.row_key = {keys, static_cast<std::size_t>(count)};
  }
  some.x = rows_from(in.x, first, count);
  some.options = in.options;
  some.training = in.training;
  some.draws = in.draws;
  return some;
}

}  // namespace impl

MOE_NAMESPACE_END
