// Scratch of one step of a call.
#pragma once

#include "moe/core/workspace.hpp"

MOE_NAMESPACE_BEGIN

/// f(), then everything it took from the arena is given back.
template <class F>
void scoped(Arena& arena, const F& f) {
  const Index mark = arena.mark();
  f();
  arena.rewind(mark);
}

MOE_NAMESPACE_END
