// forward/<bf16|int8|int4>/...: a file of its own, so that it compiles beside the other.
#include "forward.hpp"

namespace bench {

void add_low_precision(const Suite& suite) {
  add_forward_cells<moe::BFloat16>(suite);
  add_forward_cells<moe::Int8Groups<>>(suite);
  add_forward_cells<moe::Int4Groups<>>(suite);
}

}  // namespace bench
