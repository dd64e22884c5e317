// The banks of released models' layers, chosen at run time: experts with or without a gate, with experts that
// compute nothing behind them, in one of the storages.
#pragma once

#include <cstdint>
#include <type_traits>

#include "moe/core/check.hpp"
#include "moe/core/type_list.hpp"
#include "moe/expert/bank/any.hpp"
#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/list.hpp"
#include "moe/expert/bank/zero_computation.hpp"
#include "moe/storage/list.hpp"

MOE_NAMESPACE_BEGIN
namespace models {

/// Feed-forward experts with a gate or without.
template <class Storage>
using FeedForward = FromList<OneBank, FeedForwardBanks<Storage>>;

/// The same, alone or with zero, copy and constant experts behind them.
template <class Storage>
using AnyBank = OneBank<FeedForward<Storage>, Composite<FeedForward<Storage>, ZeroComputation<float>>>;

/// How a layer's weights are stored; the router always in float.
enum class StorageKind : std::uint8_t { float32, bfloat16, int8, int4, int8_channels, q4_k, q6_k };
static_assert(Storages::kSize == 7);  // in this order

namespace impl {

/// f(std::type_identity<Storage>()) for the storage of that kind. Throws config_error for a number that is
/// none.
template <class F>
void with_storage(StorageKind kind, const F& f) {
  const Index wanted{static_cast<std::uint8_t>(kind)};
  require_range("storage", wanted, 0, Index{Storages::kSize} - 1);
  Index here = 0;
  for_each_type(Storages{}, [&]<class Storage>(std::type_identity<Storage> storage) {
    if (here++ == wanted) f(storage);
  });
}

}  // namespace impl
}  // namespace models
MOE_NAMESPACE_END
