// What the tapes of frames remember of a call: its rows that took part.
#pragma once

#include <cstdint>

#include "moe/core/buffer.hpp"
#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// token = the t in [0, rows) with active[t], ascending: what a frame's tape remembers of a call.
inline void list_active(const bool* active, Index rows, Buffer<std::int32_t>& token) {
  Index count = 0;
  for (Index t = 0; t < rows; ++t) count += active[t] ? 1 : 0;
  token.resize(count);
  count = 0;
  for (Index t = 0; t < rows; ++t) {
    if (active[t]) token[count++] = static_cast<std::int32_t>(t);
  }
}

}  // namespace impl

MOE_NAMESPACE_END
