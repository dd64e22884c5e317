// The capacity policies of the library: a new one is a header and a line here.
#pragma once

#include "moe/core/type_list.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/plan/capacity/fixed.hpp"
#include "moe/plan/capacity/heterogeneous.hpp"

MOE_NAMESPACE_BEGIN

using Capacities = TypeList<Dropless,       //
                            FixedCapacity,  //
                            HeterogeneousCapacity>;

MOE_NAMESPACE_END
