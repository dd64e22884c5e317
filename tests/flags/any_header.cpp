#include "moe/core/types.hpp"

static_assert(sizeof(moe::Index) > 0);
