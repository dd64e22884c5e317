#include "moe/kernels.hpp"

MOE_NAMESPACE_BEGIN
MOE_KERNELS(, SerialExecutor)
MOE_NAMESPACE_END
