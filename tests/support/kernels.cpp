#include "support/kernels.hpp"

MOE_NAMESPACE_BEGIN
namespace impl {
MOE_TEST_KERNELS(, float)
MOE_TEST_KERNELS(, double)
}  // namespace impl
MOE_NAMESPACE_END
