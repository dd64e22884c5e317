// The score functions of the library: a new one is a header and a line here.
#pragma once

#include "moe/core/type_list.hpp"
#include "moe/router/score/group_softmax.hpp"
#include "moe/router/score/identity.hpp"
#include "moe/router/score/relu.hpp"
#include "moe/router/score/relu_rms.hpp"
#include "moe/router/score/sigmoid.hpp"
#include "moe/router/score/softmax.hpp"
#include "moe/router/score/sqrt_softplus.hpp"

MOE_NAMESPACE_BEGIN

using Scores = TypeList<Softmax,            //
                        SigmoidScore,       //
                        ReluScore,          //
                        IdentityScore,      //
                        GroupSoftmax,       //
                        SqrtSoftplusScore,  //
                        ReluRmsScore>;

MOE_NAMESPACE_END
