// A gated recurrent unit over rows, with the gates of torch.nn.GRUCell. Cho et al. 1406.1078.
#pragma once

#include <cstdint>
#include <limits>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/kernel/activation_policy.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/product/projection.hpp"

MOE_NAMESPACE_BEGIN

/// h' = (1 - z) n + z h, with r = sigmoid(W_ir q + b_ir + W_hr h + b_hr), z likewise, and
/// n = tanh(W_in q + b_in + r (W_hn h + b_hn)). Parameters "gru.input.weight" [3 R, Q], "gru.hidden.weight"
/// [3 R, R] and their biases [3 R], in the order r, z, n. Zero until initialise(). A row whose sums are not
/// finite becomes NaN. For several layers that share one see GruScorer.
template <class RealType>
class GruCell {
 public:
  using Real = RealType;
  struct Tape {
    Buffer<Real> gates;  // [T, 4 R]: r, z, n, W_hn h + b_hn
  };
  struct Gradients {
    typename Projection<Real>::Gradients input, hidden;
  };

  /// Q and R. Throws config_error for sizes below 1.
  GruCell(Index inputs, Index state)
      : input_(inputs, three(state), true), hidden_(checked(state), three(state), true) {}

  Index inputs() const noexcept { return input_.in(); }
  Index state() const noexcept { return hidden_.in(); }
  /// U(-scale / sqrt(columns), scale / sqrt(columns)), zero biases.
  void initialise(std::uint64_t seed, double scale = 1) {
    input_.initialise(seed, 0, scale);
    hidden_.initialise(seed, 1, scale);
  }

  void measure(Arena& arena, Index tokens, Index) const {
    ForwardScratch{arena, tokens, state()};
    const Index mark = arena.mark();
    input_.measure(arena, tokens);
    arena.rewind(mark);
    hidden_.measure(arena, tokens);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    BackwardScratch{arena, tokens, state()};
    const Index mark = arena.mark();
    input_.measure_backward(arena, tokens, concurrency);
    arena.rewind(mark);
    hidden_.measure_backward(arena, tokens, concurrency);
  }

  /// `q` [T, Q], `h` [T, R] or absent (0), `next` [T, R]. `tape` may be null.
  template <Executor X>
  void forward(const ConstMatrixView<Real>& q, const ConstMatrixView<Real>& h, const MatrixView<Real>& next,
               Tape* tape, Arena& arena, X& executor) const {
    const Index tokens = q.rows, r = state();
    const ForwardScratch scratch(arena, tokens, r);
    const ConstMatrixView<Real> before = scratch.or_zeros(h, tokens, r);
    const Index mark = arena.mark();
    input_.forward(q, scratch.input, arena, executor);
    arena.rewind(mark);
    hidden_.forward(before, scratch.hidden, arena, executor);
    arena.rewind(mark);
    Real* const gates = tape == nullptr ? nullptr : tape->gates.resize(checked_product("tape", tokens, 4, r));
    executor.parallel_for(tokens, [&](Index t, Index) noexcept {
      Real *const a = scratch.input.row(t), *const b = scratch.hidden.row(t);
      if (!all_finite(a, 3 * r) || !all_finite(b, 3 * r)) {
        return fill_row(std::numeric_limits<Real>::quiet_NaN(), next.row(t), r);
      }
      add_row(b, a, 2 * r);
      activate_row(Sigmoid{}, a, a, 2 * r);
      fma_row(a, b + 2 * r, a + 2 * r, r);
      activate_row(Tanh{}, a + 2 * r, a + 2 * r, r);
      for (Index j = 0; j < r; ++j) {
        const Real z = a[r + j];
        next(t, j) = (1 - z) * a[2 * r + j] + z * before(t, j);
      }
      if (gates != nullptr) {
        copy_row(a, gates + 4 * r * t, 3 * r);
        copy_row(b + 2 * r, gates + 4 * r * t + 3 * r, r);
      }
    });
  }

  /// Of the rows listed [count], ascending (null: all): adds to dq [T, Q], to dh [T, R] if it is there, and
  /// to `gradients` if not null, from dnext [T, R]; q and h as in forward.
  template <Executor X>
  void backward(const std::int32_t* rows, Index count, const ConstMatrixView<Real>& q,
                const ConstMatrixView<Real>& h, const Tape& tape, const ConstMatrixView<Real>& dnext,
                const MatrixView<Real>& dq, const MatrixView<Real>& dh, Gradients* gradients, Arena& arena,
                X& executor) const {
    const Index tokens = q.rows, r = state();
    const BackwardScratch scratch(arena, tokens, r);
    const ConstMatrixView<Real> before = scratch.or_zeros(h, tokens, r);
    const Real* const kept = impl::taped("gru", tape.gates, tokens * 4 * r);
    executor.parallel_for(count, [&](Index i, Index) noexcept {
      const Index t = rows == nullptr ? i : Index{rows[i]};
      const Real* const gates = kept + 4 * r * t;
      Real *const a = scratch.input.row(t), *const b = scratch.hidden.row(t);
      for (Index j = 0; j < r; ++j) {
        const Real reset = gates[j], z = gates[r + j], n = gates[2 * r + j];
        const Real d = dnext(t, j), dn = d * (1 - z) * (1 - n * n);
        a[j] = b[j] = dn * gates[3 * r + j] * reset * (1 - reset);
        a[r + j] = b[r + j] = d * (before(t, j) - n) * z * (1 - z);
        a[2 * r + j] = dn;
        b[2 * r + j] = dn * reset;
        if (dh) dh(t, j) += d * z;
      }
    });
    const Index mark = arena.mark();
    input_.backward_rows(rows, count, q, scratch.input, dq,
                         gradients == nullptr ? nullptr : &gradients->input, arena, executor);
    arena.rewind(mark);
    hidden_.backward_rows(rows, count, before, scratch.hidden, dh,
                          gradients == nullptr ? nullptr : &gradients->hidden, arena, executor);
    arena.rewind(mark);
  }

  Gradients make_gradients() const { return {input_.make_gradients(), hidden_.make_gradients()}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    input_.visit_parameters("gru.input", gradients == nullptr ? nullptr : &gradients->input, f);
    hidden_.visit_parameters("gru.hidden", gradients == nullptr ? nullptr : &gradients->hidden, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    input_.visit_storage("gru.input", gradients == nullptr ? nullptr : &gradients->input, f);
    hidden_.visit_storage("gru.hidden", gradients == nullptr ? nullptr : &gradients->hidden, f);
  }

 private:
  /// Sums [T, 3 R] before the gates, or their gradients; a row of zeros [R].
  struct ForwardScratch {
    MatrixView<Real> input, hidden;
    Real* zeros;
    ForwardScratch(Arena& arena, Index tokens, Index r)
        : input(sums(arena, tokens, r)), hidden(sums(arena, tokens, r)), zeros(arena.take<Real>(r)) {}
    static MatrixView<Real> sums(Arena& arena, Index tokens, Index r) {
      MatrixView<Real> view;
      view.data = arena.take<Real>(checked_product("rows of a gru", tokens, 3, r));
      view.rows = tokens;
      view.cols = view.stride = 3 * r;
      return view;
    }
    /// The state before: every row that of zeros where there is none.
    ConstMatrixView<Real> or_zeros(const ConstMatrixView<Real>& h, Index tokens, Index r) const noexcept {
      if (h) return h;
      fill_row(Real{0}, zeros, r);
      ConstMatrixView<Real> none;
      none.data = zeros;
      none.rows = tokens;
      none.cols = r;
      return none;
    }
  };
  using BackwardScratch = ForwardScratch;

  static Index checked(Index state) {
    require_range("state of a gru", state, 1, INT32_MAX / 4);
    return state;
  }
  static Index three(Index state) { return 3 * checked(state); }

  Projection<Real> input_;
  Projection<Real> hidden_;
};

MOE_NAMESPACE_END
