// The weightings of the library: a new one is a header and a line here.
#pragma once

#include "moe/core/type_list.hpp"
#include "moe/router/weighting/equal.hpp"
#include "moe/router/weighting/gate.hpp"
#include "moe/router/weighting/gather.hpp"
#include "moe/router/weighting/grin.hpp"
#include "moe/router/weighting/leading.hpp"
#include "moe/router/weighting/moe_plus_plus.hpp"
#include "moe/router/weighting/random_second.hpp"
#include "moe/router/weighting/sigmoid.hpp"
#include "moe/router/weighting/softmax.hpp"
#include "moe/router/weighting/sparse_mixer.hpp"
#include "moe/router/weighting/unit.hpp"

MOE_NAMESPACE_BEGIN

using Weightings = TypeList<GatherWeighting,        //
                            SoftmaxWeighting,       //
                            SigmoidWeighting,       //
                            LeadingWeighting,       //
                            SparseMixerWeighting,   //
                            GrinWeighting,          //
                            EqualWeighting,         //
                            RandomSecondWeighting,  //
                            UnitWeighting,          //
                            MoePlusPlusWeighting,   //
                            GateWeighting>;

MOE_NAMESPACE_END
