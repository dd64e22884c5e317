// What the tapes of frames remember of a call: its rows that took part.
#pragma once

#include <cstdint>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
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

/// Throws state_error for a list that names a row which a batch of `rows` rows lacks.
inline void require_active(const char* frame, const Buffer<std::int32_t>& token, Index rows) {
  if (!token.empty() && token[token.size() - 1] >= rows) {
    fail<state_error>("tape of ", frame, ": expected that of a batch of ", rows, " rows, got one of ",
                      token[token.size() - 1] + 1, " or more");
  }
}

}  // namespace impl

MOE_NAMESPACE_END
