// The parts of a balancing in the library: a new one is a header and a line here.
#pragma once

#include "moe/core/type_list.hpp"
#include "moe/router/balance/activation_locality.hpp"
#include "moe/router/balance/adaptive_l1.hpp"
#include "moe/router/balance/chunk_sparsity.hpp"
#include "moe/router/balance/cluster_variance.hpp"
#include "moe/router/balance/communication_balance.hpp"
#include "moe/router/balance/device_balance.hpp"
#include "moe/router/balance/dirichlet_prior.hpp"
#include "moe/router/balance/entropy.hpp"
#include "moe/router/balance/group_alignment.hpp"
#include "moe/router/balance/importance.hpp"
#include "moe/router/balance/load.hpp"
#include "moe/router/balance/load_balance.hpp"
#include "moe/router/balance/local_balance.hpp"
#include "moe/router/balance/locality.hpp"
#include "moe/router/balance/mean_importance.hpp"
#include "moe/router/balance/overload.hpp"
#include "moe/router/balance/pool_balance.hpp"
#include "moe/router/balance/ratio.hpp"
#include "moe/router/balance/selection_bias.hpp"
#include "moe/router/balance/sequence_balance.hpp"
#include "moe/router/balance/share_importance.hpp"
#include "moe/router/balance/sparsity_l1.hpp"
#include "moe/router/balance/target.hpp"
#include "moe/router/balance/z.hpp"

MOE_NAMESPACE_BEGIN

using BalanceParts = TypeList<SelectionBias,         //
                              LoadBalance,           //
                              SequenceBalance,       //
                              DeviceBalance,         //
                              CommunicationBalance,  //
                              ImportanceLoss,        //
                              ShareImportance,       //
                              LoadLoss,              //
                              ZLoss,                 //
                              EntropyLoss,           //
                              LocalBalance,          //
                              GroupAlignment,        //
                              AdaptiveL1,            //
                              ActivationLocality,    //
                              ChunkSparsity,         //
                              SparsityL1,            //
                              MeanImportance,        //
                              DirichletPrior,        //
                              LocalityLoss,          //
                              ClusterVariance,       //
                              OverloadLoss,          //
                              TargetLoss,            //
                              PoolBalance,           //
                              RatioLoss>;

MOE_NAMESPACE_END
