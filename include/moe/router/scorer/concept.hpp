// Scorers: rows -> logits [T, N], the trained part of most routers. What every scorer has.
#pragma once

#include <concepts>
#include <cstdint>

#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"

MOE_NAMESPACE_BEGIN

/// Logits of a call. `clean` and `noise_scale` are filled by noisy scorers only (noisy()): value = clean +
/// noise_scale * draw in training.
template <class Real>
struct Logits {
  MatrixView<Real> value;  // [T, N]
  MatrixView<Real> clean{};
  MatrixView<Real> noise_scale{};
  const std::int32_t* rows = nullptr;  // backward: [row_count] the rows that take part, ascending; null: all
  Index row_count = 0;
  // Of scorers that carry, else empty:
  MatrixView<Real> carry{};            // forward: [T, R] to be written, what is handed on
  ConstMatrixView<Real> dcarry_out{};  // backward: [T, R] its gradient, or absent
  MatrixView<Real> dcarry{};           // backward: [T, R] of the carry that came in, added to, or absent
};

/// Where a row's logits come from something that is not finite, some logit must be NaN or +inf
/// (impl::finite_or_spoiled), even if a bounded function made them finite again: the row would pass for a
/// good one, and its gradient be NaN for everybody. -inf masks an output.
///
/// A scorer with `bool noisy()` may say that it fills all three. May have: kName, check(outputs),
/// check_call(call), coupling(training), state.
///
/// `backward` gets gradients of all three (empty where there is no noise) and may overwrite them, adds to dx
/// (which may be absent) and to the gradients (null: frozen). It leaves out the rows that take no part
/// (padding, spoiled): their x may be NaN, which times a gradient of 0 is NaN.
template <class S>
concept Scorer = std::move_constructible<S> &&
    requires(const S& scorer, const RouterInput<typename S::Real>& in, const Logits<typename S::Real>& logits,
             const MatrixView<typename S::Real>& dx, typename S::Tape* tape, const typename S::Tape& taped,
             typename S::Gradients* gradients, Arena& arena, SerialExecutor& executor) {
  { scorer.width() } -> std::convertible_to<Index>;
  { scorer.outputs() } -> std::convertible_to<Index>;
  { scorer.measure(arena, Index{}, Index{}) } -> std::same_as<void>;
  { scorer.measure_backward(arena, Index{}, Index{}) } -> std::same_as<void>;
  { scorer.logits(in, logits, tape, arena, executor) } -> std::same_as<void>;
  { scorer.backward(in, taped, logits, dx, gradients, arena, executor) } -> std::same_as<void>;
  { scorer.make_gradients() } -> std::same_as<typename S::Gradients>;
};

/// Hands a row of `carry_width()` numbers, R, on to the next layer's router; 0: as it was built, nothing. It
/// reads the row that came in as in.carry [T, R], checked for it, which the first layer lacks: then it starts
/// anew. Rows that take no part, and spoiled ones, are handed on as 0 by whoever calls it.
template <class S>
concept CarryingScorer = Scorer<S> && requires(const S& scorer) {
  { scorer.carry_width() } -> std::convertible_to<Index>;
};

namespace impl {

template <class S>
bool is_noisy(const S& scorer) noexcept {
  if constexpr (requires { scorer.noisy(); }) {
    return scorer.noisy();
  } else {
    return false;
  }
}

}  // namespace impl

MOE_NAMESPACE_END
