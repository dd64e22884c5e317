// The scorers of the library: a new one is a header and a line here. Wrappers (a norm in front, a map behind)
// go around any of them.
#pragma once

#include "moe/core/type_list.hpp"
#include "moe/router/scorer/attention.hpp"
#include "moe/router/scorer/bi_level.hpp"
#include "moe/router/scorer/block_mean.hpp"
#include "moe/router/scorer/centroid.hpp"
#include "moe/router/scorer/cosine.hpp"
#include "moe/router/scorer/hyper.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/scorer/map/soft_cap.hpp"
#include "moe/router/scorer/map/spread.hpp"
#include "moe/router/scorer/mixture.hpp"
#include "moe/router/scorer/noisy.hpp"
#include "moe/router/scorer/two_layer.hpp"
#include "moe/router/scorer/uncertain.hpp"

MOE_NAMESPACE_BEGIN

template <class Real>
using Scorers = TypeList<LinearScorer<Real>,     //
                         TwoLayerScorer<Real>,   //
                         CosineScorer<Real>,     //
                         BiLevelScorer<Real>,    //
                         NoisyScorer<Real>,      //
                         MixtureScorer<Real>,    //
                         HyperScorer<Real>,      //
                         AttentionScorer<Real>,  //
                         BlockMeanScorer<Real>,  //
                         CentroidScorer<Real>,   //
                         UncertainScorer<Real>>;

using LogitMaps = TypeList<SoftCap,  //
                           LogitSpread>;

MOE_NAMESPACE_END
