#include "moe/core/types.hpp"
