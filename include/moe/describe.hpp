// Which code runs: for bug reports, logs and benchmark labels.
#pragma once

#include "moe/config.hpp"
#include "moe/kernel/arch.hpp"

MOE_NAMESPACE_BEGIN

struct Description {
  const char* version;       // "0.1.0"
  const char* abi;           // the inline namespace: version, instruction set, build kind
  const char* instructions;  // what the row kernels and the grouped GEMM are compiled for
  const char* compiler;
  bool fused_multiply_add;
  bool assertions;
};

/// What this translation unit was compiled for; the CPU it runs on may be able to do more.
constexpr Description describe() noexcept {
  return {MOE_VERSION_STRING, MOE_STRINGIFY(MOE_ABI_TAG), arch_name<>(), MOE_COMPILER, kHasFma,
          MOE_ASSERTIONS};
}

MOE_NAMESPACE_END
