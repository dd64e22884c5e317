// What this machine can do, measured: arithmetic and bytes read per second, for a number of threads.
#pragma once

#include "moe/core/types.hpp"

namespace bench {

using moe::Index;

/// The instructions against whose peak the products of a storage format are held: of the sequences that the
/// compiler's flags offer for it, the fastest one measured. Where there is none, its products run as float
/// ones, and so does its limit.
enum class Instruction { fma_float, fma_double, dot_bfloat16, dot_int8, dot_int4 };

/// Of the sequence that won: "vpmaddwd + vpaddd".
const char* name_of(Instruction instruction);

/// Operations per second of whole groups of 32 codes: the sequence, then conversion, scale and sum in float.
/// 0 for what has no groups.
double group_peak(Instruction instruction, Index threads);

struct Limits {
  double peak = 0;        // operations per second, a multiply-add counting two, of the instruction
  double float_peak = 0;  // the same of the router's arithmetic: fma in float or double
  double bytes = 0;       // read per second, by the best of several patterns
};

/// Measured now, or half a second ago at most. Takes 0.3 s, the first time 1 s; never call it inside a timed
/// region.
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
