// The selections of the library: a new one is a header and a line here. Those over a set of rows have a list
// of their own, for a router that holds one of them couples rows.
#pragma once

#include "moe/core/type_list.hpp"
#include "moe/router/selection/column_top_k.hpp"
#include "moe/router/selection/group_limited.hpp"
#include "moe/router/selection/positive.hpp"
#include "moe/router/selection/table.hpp"
#include "moe/router/selection/top_k.hpp"

MOE_NAMESPACE_BEGIN

using Selections = TypeList<TopKSelection,          //
                            GroupLimitedSelection,  //
                            PositiveSelection,      //
                            TableSelection>;

using SetSelections = TypeList<ColumnTopK>;

MOE_NAMESPACE_END
