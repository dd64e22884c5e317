// expect: moe: a column of a temporary vector would dangle
#include <vector>

#include "moe/core/input.hpp"

void give(moe::LayerInput<float>& in) {
#if defined(MOE_MUST_COMPILE)
  in.token_id = std::vector<std::int64_t>{1, 2};  // converted into memory of the column's own
#else
  in.token_id = std::vector<moe::TokenId>{1, 2};
#endif
}
