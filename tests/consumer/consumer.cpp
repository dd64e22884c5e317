// A program that uses the library, built by every consumer project of this folder.
#include <Eigen/Core>
#include <cstdio>

#include "moe/config.hpp"
#include "moe/kernel/arch.hpp"

#if defined(CONSUMER_EXPECTS_VERSION)  // what the package said must be what the headers are
constexpr int kExpected[] = {CONSUMER_EXPECTS_VERSION};
static_assert(kExpected[0] == MOE_VERSION_MAJOR && kExpected[1] == MOE_VERSION_MINOR &&
              kExpected[2] == MOE_VERSION_PATCH);
#endif

int main() {
  const Eigen::VectorXf ones = Eigen::VectorXf::Ones(4);
  std::printf("%s, %s\n", MOE_STRINGIFY(MOE_ABI_TAG), moe::arch_name());
  return ones.sum() == 4.0f ? 0 : 1;
}
