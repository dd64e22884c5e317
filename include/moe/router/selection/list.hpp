// The selections of the library: a new one is a header and a line here. Those over a set of rows have a list
// of their own, for a router that holds one of them couples rows.
#pragma once

#include "moe/core/type_list.hpp"
#include "moe/router/selection/adaptive_top_two.hpp"
#include "moe/router/selection/assignment.hpp"
#include "moe/router/selection/capacity_aware_top_k.hpp"
#include "moe/router/selection/column_top_k.hpp"
#include "moe/router/selection/each_group.hpp"
#include "moe/router/selection/group_limited.hpp"
#include "moe/router/selection/importance_top_k.hpp"
#include "moe/router/selection/plackett_luce.hpp"
#include "moe/router/selection/positive.hpp"
#include "moe/router/selection/rectified_top_k.hpp"
#include "moe/router/selection/sinkhorn_top_k.hpp"
#include "moe/router/selection/sparse_mixer.hpp"
#include "moe/router/selection/table.hpp"
#include "moe/router/selection/threshold.hpp"
#include "moe/router/selection/top_k.hpp"
#include "moe/router/selection/top_p.hpp"

MOE_NAMESPACE_BEGIN

using Selections = TypeList<TopKSelection,          //
                            GroupLimitedSelection,  //
                            PositiveSelection,      //
                            TopPSelection,          //
                            AdaptiveTopTwo,         //
                            ThresholdSelection,     //
                            EachGroupSelection,     //
                            ImportanceTopK,         //
                            PlackettLuce,           //
                            SparseMixerSelection,   //
                            TableSelection>;

using SetSelections = TypeList<ColumnTopK,         //
                               CapacityAwareTopK,  //
                               RectifiedTopK,      //
                               Assignment,         //
                               SinkhornTopK>;

MOE_NAMESPACE_END
