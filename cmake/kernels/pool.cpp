#include "moe/kernels.hpp"

MOE_NAMESPACE_BEGIN
MOE_KERNELS(, PoolExecutor)
MOE_NAMESPACE_END
