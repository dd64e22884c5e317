// Layers one after the other: h_0 = x, h_t = L_t(h_{t-1}), y = h_C. With routers of their own over one bank
// that is Chain-of-Experts, 2506.18945; of two layers with banks of their own, CartesianMoE, 2410.16077.
#pragma once

#include <cstddef>
#include <cstdint>
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
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/layer/call/output.hpp"

MOE_NAMESPACE_BEGIN

/// `inner`: every step adds the rows it got to what its layer made of them, h_t = L_t(h_{t-1}) + h_{t-1}.
enum class Residual : std::uint8_t { none, inner };

/// Steps of one type, as many as there are in the vector, or of several types, one of each. A step's layer
/// gets the caller's columns, segments and options, and rows that the step before made. Rows that take no
/// part are 0 after every step. A row that a step isolates is NaN in y and has no gradient.
///
/// With a `halt`, in calls that do not train, a row to which a step added less than that part of its length
/// takes no part in further steps and stays as it is.
///
/// Losses of all steps are added up by name. Statistics: the sum over the steps whose layers have as many
/// experts as the first, and every step's own counts as `layers`. An observer sees every step. Gradients of a
/// bank or router that several steps refer to are one object, that of the first of them, and are added to
/// from the last step to the first.
template <class L, class... More>
class Chain : public impl::GroupCalls<Chain<L, More...>, L, More...> {
  using Calls = impl::GroupCalls<Chain, L, More...>;
  friend Calls;

 public:
  using Calls::coupling;
  using Calls::kTrainable;
  using typename Calls::Gradients;
  using typename Calls::LayerGradients;
  using typename Calls::Layers;
  using typename Calls::Real;
  using typename Calls::Tape;

  /// Throws config_error for no steps, and unless every step's rows, and what it hands on, are as wide as the
  /// next one reads; for a halt below 0, not finite, or of steps that do not add to their rows or hand
  /// something on.
  explicit Chain(Layers steps, Residual residual = Residual::none, double halt = 0)
      : Calls("step", std::move(steps)), residual_(residual), halt_(halt) {
    if (!(halt >= 0 && is_finite(halt))) {
      fail<config_error>("halt: expected a finite part of a row's length >= 0, got ", halt);
    }
    if (halt > 0 && (residual != Residual::inner || carry_width() > 0)) {
      fail<config_error>("halt: expected steps that add to their rows and hand nothing on, got a halt of ",
                         halt);
    }
    require_fit<config_error>();
  }

  Residual residual() const noexcept { return residual_; }
  double halt() const noexcept { return halt_; }
  /// D: columns of x, of every step's rows and of y.
  Index width() const noexcept {
    Index width = 0;
    impl::each_layer([&](Index i, const auto& step) { width = i == 0 ? Index{step.width()} : width; },
                     this->layers());
    return width;
  }

  /// R: columns of what the steps hand on; 0: nothing.
  Index carry_width() const noexcept {
    Index width = 0;
    impl::each_layer(
        [&](Index, const auto& step) { width = width == 0 ? impl::carry_width_of(step) : width; },
        this->layers());
    return width;
  }

  using Calls::backward;

  /// Gradients of sum(dy * y) + auxiliary_scale * losses at the call on the tape. Throws as MoeLayer's,
  /// before anything is written.
  template <Executor X = SerialExecutor>
  void backward(const Tape& tape, const LayerGradients& gradients, Workspace& workspace,
                X&& executor = X{}) const requires kTrainable {
    this->require_tape(tape);
    const Index tokens = tape.shape_.tokens;
    this->check_backward(gradients, tokens, width(), width(), carry_width(), tape.had_carry_);
    Arena arena = this->backward_arena(workspace, tape.shape_, executor.concurrency());
    const typename Calls::Inner inner(*this, arena, tape.shape_, Mode::training, executor.concurrency());
    const Memory memory(*this, arena, tape.shape_);
    const Carriers carriers(this->layers());
    ConstMatrixView<Real> dh = gradients.dy, dcarry = gradients.dcarry_out;
    impl::each_layer_back(
        [&](Index i, const auto& step, const auto& taped) {
          const MatrixView<Real> before = i == 0 ? gradients.dx : memory.rows[i % 2];
          auto own = this->own_gradients(i, step, dh, before, gradients);
          if constexpr (requires { own.dcarry_out; }) {
            if (impl::carry_width_of(step) > 0) {
              own.dcarry_out = dcarry;
              own.dcarry = i == carriers.first ? gradients.dcarry : memory.other_carry(dcarry);
              dcarry = own.dcarry;
            }
          }
          Workspace of_step = inner.workspace();
          step.backward(taped, own, of_step, executor);
          if (before && residual_ == Residual::inner) add_active(dh, before, tape.active_.data(), executor);
          dh = before;
        },
        this->layers(), tape.layers_);
  }

 private:
  /// The first and the last step that hand something on.
  struct Carriers {
    Index first = -1, last = -1;
    explicit Carriers(const Layers& steps) {
      impl::each_layer(
          [&](Index i, const auto& step) {
            if (impl::carry_width_of(step) == 0) return;
            first = first < 0 ? i : first;
            last = i;
          },
          steps);
    }
  };

  /// What a call takes, either way.
  struct Memory {
    MatrixView<Real>
        rows[2];  // [T, D] between the steps: step i writes rows[i % 2], or reads its gradient there
    MatrixView<Real> carry[2];  // [T, R] what steps hand on, by turns

    Memory(const Chain& chain, Arena& arena, const CallShape& shape) {
      const Index between = chain.size() - 1 < 2 ? chain.size() - 1 : 2;
      // Of two steps, what lies between them is gradient 1 and rows 0.
      if (between > 0) rows[0] = rows[1] = impl::take_rows<Real>(arena, shape.tokens, chain.width());
      if (between > 1) rows[1] = impl::take_rows<Real>(arena, shape.tokens, chain.width());
      const Index carried = between > 0 ? chain.carry_width() : 0;
      for (auto& rows_of_carry : carry) {
        if (carried > 0) rows_of_carry = impl::take_rows<Real>(arena, shape.tokens, carried);
      }
    }
    /// Which of the two `used` is not.
    MatrixView<Real> other_carry(const ConstMatrixView<Real>& used) const noexcept {
      return carry[used.data == carry[0].data ? 1 : 0];
    }
  };
  struct Forward : Memory {
    bool* going;  // [T] rows that take part in the next step, if rows may halt
    Forward(const Chain& chain, Arena& arena, const CallShape& shape)
        : Memory(chain, arena, shape), going(arena.take<bool>(chain.halt_ > 0 ? shape.tokens : 0)) {}
  };
  using Backward = Memory;

  /// Every step reads what the one before it made.
  template <class X>
  auto calls(const LayerInput<Real>& in, LayerOutput<Real>& out, const Forward& memory, bool training,
             X& executor) const {
    bool* const going = halt_ > 0 && !training ? memory.going : nullptr;
    for (Index t = 0; going != nullptr && t < in.x.rows; ++t) going[t] = impl::takes_part(in, t);
    return [&in, &out, &memory, &executor, this, going, carriers = Carriers(this->layers()),
            h = ConstMatrixView<Real>(in.x),
            carry = ConstMatrixView<Real>(in.carry)](Index i, const auto& step, const auto& run) mutable {
      LayerInput<Real> own = impl::borrow_input(in, h);
      own.carry = carry;
      if (going != nullptr) own.valid = {going, static_cast<std::size_t>(h.rows)};
      LayerOutput<Real> after(i == this->size() - 1 ? out.y : memory.rows[i % 2]);
      if (impl::carry_width_of(step) > 0) {
        after.carry = i == carriers.last ? out.carry : memory.other_carry(carry);
        carry = after.carry;
      }
      run(own, after);
      if (residual_ == Residual::inner) {
        executor.parallel_for(h.rows, [&](Index t, Index) noexcept {
          if (!impl::takes_part(in, t)) return;
          const Real* const before = h.row(t);
          Real* const y = after.y.row(t);
          if (going != nullptr && going[t]) {
            going[t] = !(squared_norm(y, h.cols) < least_ * squared_norm(before, h.cols));
          }
          add_row(before, y, h.cols);  // of rows that took no part y is 0
        });
      }
      h = after.y;
    };
  }
  template <class X>
  void join(LayerOutput<Real>&, const Memory&, X&) const noexcept {}

  template <class X>
  static void add_active(const ConstMatrixView<Real>& from, const MatrixView<Real>& to, const bool* active,
                         X& executor) {
    executor.parallel_for(to.rows, [&](Index t, Index) noexcept {
      if (active[t]) add_row(from.row(t), to.row(t), to.cols);
    });
  }

  template <class Error>
  void require_fit() const {
    const Index reads = width();
    impl::each_layer(
        [&](Index i, const auto& step) {
          if (Index{step.width()} != reads || impl::out_width_of(step) != reads) {
            fail<Error>("step ", i, ": expected a layer of width ", reads,
                        ", as the first reads, got one from ", Index{step.width()}, " to ",
                        impl::out_width_of(step));
          }
        },
        this->layers());
  }

  Residual residual_;
  double halt_;
  Real least_ = static_cast<Real>(halt_ * halt_);
};

template <class L>
Chain(std::vector<L>, Residual = Residual::none, double = 0) -> Chain<L>;
template <class L, class... More>
Chain(std::tuple<L, More...>, Residual = Residual::none, double = 0) -> Chain<L, More...>;

/// The same chain of quantise<To>() of every step. A bank that several steps refer to becomes one of each,
/// with the same results: to keep one, quantise that and make a chain over it.
template <class To, class L, class... More>
auto quantise(const Chain<L, More...>& chain) {
  return Chain(impl::quantised_layers<To>(chain.layers()), chain.residual());
}

MOE_NAMESPACE_END
