// forward/<int8_channels|q4_k|q6_k>/...: weights as checkpoints have them.
#include "forward.hpp"

namespace bench {

void add_file_formats(const Suite& suite) {
  add_forward_cells<moe::Int8Channels>(suite);
  add_forward_cells<moe::Q4K>(suite);
  add_forward_cells<moe::Q6K>(suite);
}

}  // namespace bench
