// How much memory a layer's calls take: asked for by name, and taken by the calls themselves.
#pragma once

#include "moe/core/input.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// Base of a layer that has, for this class to call, with an arena that measures,
///   void measure_forward(Arena& arena, const CallShape& shape, Mode mode, Index concurrency) const;
///   void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const;
/// which take what forward and forward_train of that mode, and backward, will take at most, or throw for a
/// layer that was moved from.
template <class Layer>
class MeasuredCalls {
 public:
  /// Bytes of workspace that a call of this shape takes; forward_train and backward may take more than
  /// forward.
  Index workspace_bytes(const CallShape& shape, Mode mode = Mode::inference, Index concurrency = 1) const {
    Arena arena;
    self().measure_forward(arena, shape, mode, concurrency);
    if constexpr (Layer::kTrainable) {
      arena.rewind(0);
      if (mode == Mode::training) self().measure_backward(arena, shape, concurrency);
    }
    return arena.bytes();
  }
  Index workspace_bytes(Index tokens, Mode mode = Mode::inference, Index concurrency = 1) const {
    return workspace_bytes(CallShape{tokens, tokens}, mode, concurrency);
  }

 protected:
  // Arenas of a call. Throw workspace_error for a fixed workspace that is too small.

  Arena forward_arena(Workspace& workspace, const CallShape& shape, Mode mode, Index concurrency) const {
    Arena measuring;
    self().measure_forward(measuring, shape, mode, concurrency);
    return workspace.arena(measuring.bytes(), mode, concurrency);
  }
  Arena backward_arena(Workspace& workspace, const CallShape& shape, Index concurrency) const {
    Arena measuring;
    self().measure_backward(measuring, shape, concurrency);
    return workspace.arena(measuring.bytes(), Mode::training, concurrency);
  }

 private:
  const Layer& self() const noexcept { return static_cast<const Layer&>(*this); }
};

}  // namespace impl

MOE_NAMESPACE_END
