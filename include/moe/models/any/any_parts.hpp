// The banks of released models' layers, chosen at run time: experts with or without a gate, with experts that
// compute nothing behind them.
#pragma once

#include "moe/expert/bank/any.hpp"
#include "moe/expert/bank/composite.hpp"
#include "moe/expert/bank/list.hpp"
#include "moe/expert/bank/zero_computation.hpp"

MOE_NAMESPACE_BEGIN
namespace models {

/// Feed-forward experts with a gate or without.
template <class Storage>
using FeedForward = FromList<OneBank, FeedForwardBanks<Storage>>;

/// The same, alone or with zero, copy and constant experts behind them.
template <class Storage>
using AnyBank = OneBank<FeedForward<Storage>, Composite<FeedForward<Storage>, ZeroComputation<float>>>;

}  // namespace models
MOE_NAMESPACE_END
