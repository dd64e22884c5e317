// The frames of the library: a new one is a header and a line here.
#pragma once

#include "moe/core/type_list.hpp"
#include "moe/layer/frame/identity.hpp"
#include "moe/layer/frame/latent.hpp"
#include "moe/layer/frame/output_bias.hpp"
#include "moe/layer/frame/scaled.hpp"

MOE_NAMESPACE_BEGIN

template <class Real>
using Frames = TypeList<IdentityFrame,      //
                        ScaledFrame<Real>,  //
                        OutputBias<Real>,   //
                        LatentFrame<Real>>;

MOE_NAMESPACE_END
