// Layers side by side over the same rows, their results beside each other or added up.
#pragma once

#include <cstdint>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/depth/group_calls.hpp"
#include "moe/depth/layer_calls.hpp"
#include "moe/depth/layer_list.hpp"
#include "moe/kernel/row.hpp"
#include "moe/layer/call/output.hpp"

MOE_NAMESPACE_BEGIN

/// y = (L_0(x), L_1(x), ...), as wide as all of them together, or y = L_0(x) + L_1(x) + ..., in this order.
enum class Join : std::uint8_t { add, concatenate };

/// Branches of one type, as many as there are in the vector, or of several types, one of each. Every branch's
/// layer gets the call as it is (router_x is refused). Rows that take no part are 0; a row that any branch
/// isolates is NaN throughout and has no gradient of y. Losses, counts and observer: as Chain's. dx is the
/// sum over the branches, ascending; gradients of a part that several refer to are one object, added to in
/// this order.
template <class L, class... More>
class Parallel : public impl::GroupCalls<Parallel<L, More...>, L, More...> {
  using Calls = impl::GroupCalls<Parallel, L, More...>;
  friend Calls;

 public:
  using Calls::coupling;
  using Calls::kTrainable;
  using typename Calls::Gradients;
  using typename Calls::LayerGradients;
  using typename Calls::Layers;
  using typename Calls::Real;
  using typename Calls::Tape;

  /// Throws config_error for no branches, branches that do not read rows of one width and, to be added, that
  /// do not write rows of one width.
  explicit Parallel(Layers branches, Join join = Join::add)
      : Calls("branch", std::move(branches)), join_(join) {
    require_fit<config_error>();
  }

  Join join() const noexcept { return join_; }
  /// D: columns of x.
  Index width() const noexcept {
    Index width = 0;
    impl::each_layer([&](Index i, const auto& branch) { width = i == 0 ? Index{branch.width()} : width; },
                     this->layers());
    return width;
  }
  /// Columns of y.
  Index out_width() const noexcept {
    Index all = 0;
    impl::each_layer(
        [&](Index i, const auto& branch) {
          const Index own = impl::out_width_of(branch);
          all = i == 0 ? own : join_ == Join::add ? all : all + own;
        },
        this->layers());
    return all;
  }

  using Calls::backward;

  /// Gradients of sum(dy * y) + auxiliary_scale * losses at the call on the tape. Throws as MoeLayer's,
  /// before anything is written.
  template <Executor X = SerialExecutor>
  void backward(const Tape& tape, const LayerGradients& gradients, Workspace& workspace,
                X&& executor = X{}) const requires kTrainable {
    this->require_tape(tape);
    const Index tokens = tape.shape_.tokens;
    this->check_backward(gradients, tokens, width(), out_width());
    Arena arena = this->backward_arena(workspace, tape.shape_, executor.concurrency());
    const typename Calls::Inner inner(*this, arena, tape.shape_, Mode::training, executor.concurrency());
    const Backward memory(*this, arena, tape.shape_);
    // What one branch isolated has no gradient in the others either.
    executor.parallel_for(tokens, [&](Index t, Index) noexcept {
      if (tape.active_[t]) {
        copy_row(gradients.dy.row(t), memory.dy.row(t), memory.dy.cols);
      } else {
        fill_row(Real{0}, memory.dy.row(t), memory.dy.cols);
      }
    });
    Index column = 0;
    impl::each_layer(
        [&](Index i, const auto& branch, const auto& taped) {
          const MatrixView<Real> dx = i == 0 || !gradients.dx ? gradients.dx : memory.dx;
          const MatrixView<Real> dy =
              block(memory.dy, join_ == Join::add ? 0 : column, impl::out_width_of(branch));
          Workspace of_branch = inner.workspace();
          branch.backward(taped, this->own_gradients(i, branch, dy, dx, gradients), of_branch, executor);
          column += dy.cols;
          if (i == 0 || !gradients.dx) return;
          executor.parallel_for(
              tokens, [&](Index t, Index) noexcept { add_row(dx.row(t), gradients.dx.row(t), dx.cols); });
        },
        this->layers(), tape.layers_);
  }

 private:
  /// What a forward takes.
  struct Forward {
    MatrixView<Real> rows;  // [T, sum of out widths] the branches' results
    Forward(const Parallel& of, Arena& arena, const CallShape& shape)
        : rows(impl::take_rows<Real>(arena, shape.tokens, of.all_widths())) {}
  };
  /// What a backward takes.
  struct Backward {
    MatrixView<Real> dy;  // [T, out width], 0 for rows that take no part
    MatrixView<Real> dx;  // [T, D] of one branch
    Backward(const Parallel& of, Arena& arena, const CallShape& shape)
        : dy(impl::take_rows<Real>(arena, shape.tokens, of.out_width())),
          dx(impl::take_rows<Real>(arena, shape.tokens, of.width())) {}
  };

  Index all_widths() const noexcept {
    Index all = 0;
    impl::each_layer([&](Index, const auto& branch) { all += impl::out_width_of(branch); }, this->layers());
    return all;
  }
  /// Columns [first, first + cols).
  static MatrixView<Real> block(const MatrixView<Real>& of, Index first, Index cols) noexcept {
    MatrixView<Real> view = of;
    view.data += first;
    view.cols = cols;
    return view;
  }

  /// Every branch reads the call's rows.
  template <class X>
  auto calls(const LayerInput<Real>& in, LayerOutput<Real>&, const Forward& memory, bool, X&) const {
    return [&in, &memory, column = Index{0}](Index, const auto& branch, const auto& run) mutable {
      LayerOutput<Real> after(block(memory.rows, column, impl::out_width_of(branch)));
      run(impl::borrow_input(in, in.x), after);
      column += after.y.cols;
    };
  }
  template <class X>
  void join(LayerOutput<Real>& out, const Forward& memory, X& executor) const {
    executor.parallel_for(out.y.rows,
                          [&](Index t, Index) noexcept { join_row(memory.rows.row(t), out.y.row(t)); });
  }
  /// A row that a branch isolated is NaN.
  void join_row(const Real* results, Real* y) const noexcept {
    bool spoiled = false;
    Index column = 0;
    impl::each_layer(
        [&](Index i, const auto& branch) {
          const Index own = impl::out_width_of(branch);
          const Real* const result = results + column;
          spoiled = spoiled || impl::is_spoiled(result, own);
          if (join_ == Join::concatenate) {
            copy_row(result, y + column, own);
          } else if (i == 0) {
            copy_row(result, y, own);
          } else {
            add_row(result, y, own);
          }
          column += own;
        },
        this->layers());
    if (spoiled) fill_row(std::numeric_limits<Real>::quiet_NaN(), y, out_width());
  }

  template <class Error>
  void require_fit() const {
    const Index reads = width(), writes = out_width();
    impl::each_layer(
        [&](Index i, const auto& branch) {
          if (Index{branch.width()} != reads) {
            fail<Error>("branch ", i, ": expected a layer of width ", reads, ", as the first reads, got ",
                        Index{branch.width()});
          }
          if (join_ == Join::add && impl::out_width_of(branch) != writes) {
            fail<Error>("branch ", i, ": expected results of ", writes,
                        " columns to add, as the first's, got ", impl::out_width_of(branch));
          }
        },
        this->layers());
  }

  Join join_;
};

template <class L>
Parallel(std::vector<L>, Join = Join::add) -> Parallel<L>;
template <class L, class... More>
Parallel(std::tuple<L, More...>, Join = Join::add) -> Parallel<L, More...>;

/// As of a Chain.
template <class To, class L, class... More>
auto quantise(const Parallel<L, More...>& parallel) {
  return Parallel(impl::quantised_layers<To>(parallel.layers()), parallel.join());
}

MOE_NAMESPACE_END
