#include "forward.hpp"

namespace bench {

void add_forward(const Suite& suite) {
  add_forward_cells<float>(suite);
  add_forward_cells<double>(suite);
}

}  // namespace bench
