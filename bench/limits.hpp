// What this machine can do, measured: arithmetic and bytes read per second, for a number of threads.
#pragma once

#include "moe/core/types.hpp"

namespace bench {

using moe::Index;

/// The instruction against whose peak the products of a storage format are held. Where the processor or the
/// compiler's flags lack a dot product, the format's products run as float ones, and so does its limit.
enum class Instruction { fma_float, fma_double, dot_bfloat16, dot_int8 };

const char* name_of(Instruction instruction);

struct Limits {
  double peak = 0;        // operations per second, a multiply-add counting two, of the instruction
  double float_peak = 0;  // the same of the router's arithmetic: fma in float or double
  double bytes = 0;       // read per second
};

/// Measured now, or half a second ago at most. Takes 0.2 s; never call it inside a timed region.
Limits limits_now(Instruction instruction, Index threads);

/// Measures before (its construction) and after (mean()) what is timed, as clocks and neighbours on the host
/// change within seconds.
class LimitsBeside {
 public:
  LimitsBeside(Instruction instruction, Index threads)
      : instruction_(instruction), threads_(threads), before_(limits_now(instruction, threads)) {}

  Limits mean() const;

 private:
  Instruction instruction_;
  Index threads_;
  Limits before_;
};

/// For trial runs: small bursts, measured once.
void use_short_limits();

}  // namespace bench
