// The banks of feed-forward experts that a checkpoint may hold: a new one is a header and a line here.
#pragma once

#include "moe/core/type_list.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/kernel/activation_policy.hpp"
#include "moe/kernel/gate.hpp"

MOE_NAMESPACE_BEGIN

template <class Storage>
using FeedForwardBanks = TypeList<Glu<AnyGate, Storage>,  //
                                  Mlp<AnyActivation, Storage>>;

MOE_NAMESPACE_END
