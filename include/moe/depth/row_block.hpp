// Blocks of the caller, attention and all, over a set of a call's rows.
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "moe/core/executor.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/random.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/plan/losses.hpp"

MOE_NAMESPACE_BEGIN

/// Rows of a call: which they are, and where they stand in their segments. A row keeps its position and its
/// segment, whoever else is in the set.
struct RowSet {
  Index count = 0;                         // n
  const std::int32_t* row = nullptr;       // [n] rows of the call, ascending
  const std::int32_t* position = nullptr;  // [n] the row's place in its segment of the call
  const std::uint64_t* key = nullptr;      // [n] what the row draws by
  const Index* segment_offsets =
      nullptr;  // [segments + 1] into the set: the rows of each segment of the call
  Index segments = 0;
};

/// What a block is called with beside its numbers.
struct BlockCall : RowSet {
  bool training = false;
  DrawCounter* draws = nullptr;       // forward: of who draws, who advances it; may be null
  AuxiliaryLosses* losses = nullptr;  // forward: where losses of the block's own are added; never null
  double auxiliary_scale = 1;         // backward: their factor in the total loss
};

/// f of y = x + w f(x). `forward` overwrites y [n, D] from x [n, D]: row i of both is row `call.row[i]` of
/// the layer's call. No tape (null) in inference. It may throw, and keeps contracts C1 and C2 as far as
/// `coupling(training)` says; n may be 0. May have: `measure(arena, shape, concurrency)`, which takes what a
/// forward of shape.tokens rows takes (without: nothing), check_call(call), state, kName.
template <class B>
concept RowBlock = std::move_constructible<B> &&
    requires(const B& block, const BlockCall& call, const ConstMatrixView<typename B::Real>& x,
             const MatrixView<typename B::Real>& y, impl::TapeOf<B>* tape, Arena& arena,
             SerialExecutor& executor) {
  { B::coupling(true) } -> std::same_as<Coupling>;
  { block.width() } -> std::convertible_to<Index>;
  { block.forward(call, x, y, tape, arena, executor) } -> std::same_as<void>;
};

/// `backward` overwrites dx [n, D] from dy [n, D], and adds to the gradients (null: frozen); x is as it was.
/// Gradients mirror the parameters: make_gradients, visit_parameters, visit_storage as of a bank. May have
/// `measure_backward`, as `measure`.
template <class B>
concept TrainableRowBlock = RowBlock<B> && std::default_initializable<impl::TapeOf<B>> &&
    requires(const B& block, const BlockCall& call, const impl::TapeOf<B>& tape,
             const ConstMatrixView<typename B::Real>& x, const MatrixView<typename B::Real>& dx,
             impl::GradientsOf<B>* gradients, Arena& arena, SerialExecutor& executor) {
  { block.backward(call, tape, x, x, dx, gradients, arena, executor) } -> std::same_as<void>;
  requires std::is_empty_v<impl::GradientsOf<B>> || requires {
    { block.make_gradients() } -> std::same_as<impl::GradientsOf<B>>;
  };
};

MOE_NAMESPACE_END
