// Experts in your own code: a callable over blocks of rows is a bank. What the library does around it: rows
// of an expert gathered into one contiguous block, one call per expert, all experts over the executor.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/expert/concept.hpp"
#include "moe/kernel/gather.hpp"
#include "moe/kernel/row.hpp"

MOE_NAMESPACE_BEGIN

struct FunctionExpertsOptions {
  Index experts = 0;  // E >= 1
  Index width = 0;    // D >= 1
};

namespace impl {
struct NoBackward {};
}  // namespace impl

/// forward(e, x, z): z [n, D] = f_e(x [n, D]), n >= 1, overwriting what z holds.
/// backward(e, x, z, dz, dx): with dz [n, D] the gradient of z, dx [n, D] is overwritten, and gradients of
/// parameters, which are the callable's own, are added to. If it takes a sixth argument, bool, that says
/// whether the experts are trained in this call (LayerGradients::experts is not null).
/// All blocks are contiguous: `Eigen::Map<const Rows>(x.data, x.rows, x.cols)`. Calls of different experts
/// may run at the same time on the workers of the executor, one expert's call is one call; an expert without
/// rows is not called. They must not throw. A row's result must depend on that row alone. Its bits are
/// independent of the executor; of the batch they are (contract C1) as far as the callable's are of n, which
/// a product of Eigen's does not promise.
template <class RealType, class Forward, class Backward = impl::NoBackward>
class FunctionExperts {
 public:
  static constexpr const char* kName = "function";
  using Real = RealType;
  using Options = FunctionExpertsOptions;
  static constexpr Coupling coupling = Coupling::row_independent;

 private:
  using Rows = ConstMatrixView<Real>;
  using Out = MatrixView<Real>;
  static constexpr bool kTrainable = !std::is_same_v<Backward, impl::NoBackward>;
  static constexpr bool kAsks = std::is_invocable_v<const Backward&, Index, Rows, Rows, Rows, Out, bool>;
  static_assert(std::is_invocable_v<const Forward&, Index, Rows, Out>,
                "moe: experts as a function need forward(Index expert, ConstMatrixView<Real> rows, "
                "MatrixView<Real> results) that can be called when const (a lambda without mutable)");
  static_assert(
      !kTrainable || kAsks || std::is_invocable_v<const Backward&, Index, Rows, Rows, Rows, Out>,
      "moe: experts as a function need backward(Index expert, ConstMatrixView<Real> rows, "
      "ConstMatrixView<Real> results, ConstMatrixView<Real> dresults, MatrixView<Real> drows) that can "
      "be called when const");

 public:
  struct Tape {
    Index slots = -1;
    Buffer<Real> result;  // [P, D]
  };
  struct Gradients {};  // the callable has its own

  /// Throws config_error for no experts or no columns.
  FunctionExperts(const Options& options, Forward forward, Backward backward = {})
      : options_(options), forward_(std::move(forward)), backward_(std::move(backward)) {
    require_range("experts", options.experts, 1, INT32_MAX);
    require_range("width", options.width, 1, PTRDIFF_MAX);
  }

  Index experts() const noexcept { return options_->experts; }
  Index width() const noexcept { return options_->width; }

  void measure(Arena& arena, Index pairs, Index) const { Scratch{arena, *this, pairs}; }
  void measure_backward(Arena& arena, Index pairs, Index) const requires kTrainable {
    BackwardScratch{arena, *this, pairs};
  }

  template <Executor X>
  void forward(const RowBatch<Real>& batch, const RowSink<Real>& sink, Arena& arena, X& executor) const {
    run(batch, sink, nullptr, arena, executor);
  }
  template <Executor X>
  void forward_train(const RowBatch<Real>& batch, const RowSink<Real>& sink, Tape& tape, Arena& arena,
                     X& executor) const requires kTrainable {
    tape.slots = -1;
    Real* const result = tape.result.resize(checked_product("tape", batch.slots(), width()));
    run(batch, sink, result, arena, executor);
    tape.slots = batch.slots();
  }

  /// Throws state_error for the tape of another batch.
  template <Executor X>
  void backward(const RowBatch<Real>& batch, const Tape& tape, const RowGradients<Real>& rows,
                Gradients* gradients, Arena& arena, X& executor) const requires kTrainable {
    require_experts(experts(), batch);
    if (tape.slots != batch.slots() || tape.result.size() != batch.slots() * width()) {
      fail<state_error>("expert tape: expected the tape of a batch of ", batch.slots(), " rows, got one of ",
                        tape.slots);
    }
    const BackwardScratch scratch(arena, *this, batch.slots());
    const Index d = width();
    const bool trained = gradients != nullptr;
    executor.parallel_for(batch.experts, [&](Index e, Index) noexcept {
      const Index first = batch.offsets[e], n = batch.offsets[e + 1] - first;
      if (n == 0) return;
      Real* const x = scratch.x + first * d;
      Real* const dz = scratch.dz + first * d;
      const Real* const z = tape.result.data() + first * d;
      gather_rows(batch.row + first, n, x, d, d);
      for (Index i = 0; i < n; ++i) {
        rows.dweight[first + i] = dot(rows.dy[first + i], z + i * d, d);
        scale_row(rows.weight[first + i], rows.dy[first + i], dz + i * d, d);
      }
      Real* const dx = place(rows.dx, first, scratch.dx);
      if constexpr (kAsks) {
        backward_(e, Rows(x, n, d), Rows(z, n, d), Rows(dz, n, d), Out(dx, n, d), trained);
      } else {
        static_cast<void>(trained);
        backward_(e, Rows(x, n, d), Rows(z, n, d), Rows(dz, n, d), Out(dx, n, d));
      }
      if (rows.dx.data != nullptr) bring(dx, n, rows.dx, first);
    });
  }

  Gradients make_gradients() const noexcept requires kTrainable { return {}; }
  template <class Visitor>
  void visit_parameters(Gradients*, Visitor&&, Index = 0) noexcept {}
  template <class Visitor>
  void visit_storage(Gradients*, Visitor&&) noexcept {}

 private:
  struct Scratch {
    Real* x;  // [P, D]
    Real* z;  // [P, D] where the sink's rows are not contiguous
    Scratch(Arena& arena, const FunctionExperts& bank, Index slots)
        : x(bank.take_rows(arena, slots)), z(bank.take_rows(arena, slots)) {}
  };
  struct BackwardScratch {
    Real* x;   // [P, D]
    Real* dz;  // [P, D]
    Real* dx;  // [P, D] where the sink's rows are not contiguous, or nobody wants it
    BackwardScratch(Arena& arena, const FunctionExperts& bank, Index slots)
        : x(bank.take_rows(arena, slots)),
          dz(bank.take_rows(arena, slots)),
          dx(bank.take_rows(arena, slots)) {}
  };

  Real* take_rows(Arena& arena, Index slots) const {
    return arena.take<Real>(checked_product("rows by expert", slots, width()));
  }
  /// Where the callable writes the rows from slot `first` on: contiguous.
  Real* place(const RowSink<Real>& sink, Index first, Real* scratch) const noexcept {
    return sink.data != nullptr && sink.stride == width() ? sink.row(first) : scratch + first * width();
  }
  /// From there to the sink.
  void bring(const Real* rows, Index n, const RowSink<Real>& sink, Index first) const noexcept {
    if (rows != sink.row(first)) copy_rows(rows, width(), n, sink.row(first), sink.stride, width());
  }

  /// With `taped` [P, D] results stay there.
  template <Executor X>
  void run(const RowBatch<Real>& batch, const RowSink<Real>& sink, Real* taped, Arena& arena,
           X& executor) const {
    require_experts(experts(), batch);
    const Scratch scratch(arena, *this, batch.slots());
    const Index d = width();
    executor.parallel_for(batch.experts, [&](Index e, Index) noexcept {
      const Index first = batch.offsets[e], n = batch.offsets[e + 1] - first;
      if (n == 0) return;
      Real* const x = scratch.x + first * d;
      Real* const z = taped == nullptr ? place(sink, first, scratch.z) : taped + first * d;
      gather_rows(batch.row + first, n, x, d, d);
      forward_(e, Rows(x, n, d), Out(z, n, d));
      if (taped == nullptr) {
        bring(z, n, sink, first);
        return;
      }
      for (Index i = 0; i < n; ++i) sink.result[first + i] = z + i * d;
    });
  }

  impl::Movable<Options> options_;
  Forward forward_;
  Backward backward_;
};

/// Experts of `Real` from a forward, and for training a backward.
template <class Real, class Forward, class Backward = impl::NoBackward>
FunctionExperts<Real, Forward, Backward> function_experts(const FunctionExpertsOptions& options,
                                                          Forward forward, Backward backward = {}) {
  return {options, std::move(forward), std::move(backward)};
}

MOE_NAMESPACE_END
