// expect: moe: a column of a temporary vector would dangle
#include <vector>

#include "moe/core/input.hpp"

void make() {
#if defined(MOE_MUST_COMPILE)
  const std::vector<moe::Index> offsets{0, 3, 5};
  moe::Segments{offsets};
#else
  moe::Segments{std::vector<moe::Index>{0, 3, 5}};
#endif
}
