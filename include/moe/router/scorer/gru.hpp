// logits = W2 h, h = GRU(W1 x, h of the layer before): a recurrence over depth, not over tokens. Layerwise
// recurrent router (RMoE), Qiu et al. 2408.06793.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/kernel/row.hpp"
#include "moe/product/projection.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/scorer/gru_cell.hpp"

MOE_NAMESPACE_BEGIN

struct GruScorerOptions {
  Index width = 0;    // D
  Index outputs = 0;  // N
};

/// Hands h [R] on; without a carry the state before is 0. Parameters "gate.input.weight" [Q, D] and
/// "gate.output.weight" [N, R], without bias. `Cell` is a GruCell, then its parameters are this scorer's; or
/// a GruCell&, which lives elsewhere and serves several layers: its owner visits and steps it, and
/// Gradients::cell points to the one object that all of them add to, in the order of their backwards (null,
/// as make_gradients() leaves it: frozen).
template <class RealType, class Cell = GruCell<RealType>>
class GruScorer {
  static constexpr bool kShared = std::is_reference_v<Cell>;
  using CellType = std::remove_cvref_t<Cell>;

 public:
  using Real = RealType;
  using Options = GruScorerOptions;
  using CellGradients = typename CellType::Gradients;
  struct Tape {
    Buffer<Real> projected;  // [T, Q] W1 x
    Buffer<Real> state;      // [T, R] h
    typename CellType::Tape cell;
  };
  struct Gradients {
    typename Projection<Real>::Gradients input, output;
    std::conditional_t<kShared, CellGradients*, CellGradients> cell{};
  };
  static constexpr const char* kName = "gru";

  /// Throws config_error for sizes below 1.
  GruScorer(const Options& options, Cell cell)
      : cell_(std::forward<Cell>(cell)),
        input_(options.width, cell_.inputs(), false),
        output_(cell_.state(), options.outputs, false) {}

  Index width() const noexcept { return input_.in(); }
  Index outputs() const noexcept { return output_.out(); }
  Index carry_width() const noexcept { return output_.in(); }
  CellType& cell() noexcept { return cell_; }
  const CellType& cell() const noexcept { return cell_; }
  /// A shared cell stays as it is.
  void initialise(std::uint64_t seed, double scale = 1) {
    input_.initialise(seed, 0, scale);
    output_.initialise(seed, 1, scale);
    if constexpr (!kShared) cell_.initialise(seed + 1, scale);
  }

  /// Throws state_error for a shared cell of other sizes than when this scorer was made.
  void check(Index) const {
    if (cell_.inputs() == input_.out() && cell_.state() == output_.in()) return;
    fail<state_error>("gru: expected a cell of ", input_.out(), " inputs and a state of ", output_.in(),
                      ", got ", cell_.inputs(), " and ", cell_.state());
  }

  void measure(Arena& arena, Index tokens, Index concurrency) const {
    rows(arena, tokens, input_.out()), rows(arena, tokens, carry_width());
    const Index mark = arena.mark();
    input_.measure(arena, tokens);
    arena.rewind(mark);
    output_.measure(arena, tokens);
    arena.rewind(mark);
    cell_.measure(arena, tokens, concurrency);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    rows(arena, tokens, input_.out()), rows(arena, tokens, carry_width());
    const Index mark = arena.mark();
    input_.measure_backward(arena, tokens, concurrency);
    arena.rewind(mark);
    output_.measure_backward(arena, tokens, concurrency);
    arena.rewind(mark);
    cell_.measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    const Index tokens = in.tokens(), q = input_.out(), r = carry_width();
    const MatrixView<Real> projected =
        tape == nullptr
            ? rows(arena, tokens, q)
            : MatrixView<Real>(tape->projected.resize(checked_product("tape", tokens, q)), tokens, q);
    const MatrixView<Real> state =
        tape == nullptr ? rows(arena, tokens, r)
                        : MatrixView<Real>(tape->state.resize(checked_product("tape", tokens, r)), tokens, r);
    const Index mark = arena.mark();
    input_.forward(in.x, projected, arena, executor);
    arena.rewind(mark);
    cell_.forward(projected, in.carry, state, tape == nullptr ? nullptr : &tape->cell, arena, executor);
    arena.rewind(mark);
    output_.forward(state, out.value, arena, executor);
    arena.rewind(mark);
    for (Index t = 0; t < tokens; ++t) {
      impl::finite_or_spoiled(out.value.row(t), outputs());
      if (out.carry) copy_row(state.row(t), out.carry.row(t), r);
    }
  }

  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    check_gradients(gradients);
    const Index tokens = in.tokens(), q = input_.out(), r = carry_width();
    const Index count = dlogits.rows == nullptr ? tokens : dlogits.row_count;
    const ConstMatrixView<Real> projected(impl::taped(kName, tape.projected, tokens * q), tokens, q);
    const ConstMatrixView<Real> state(impl::taped(kName, tape.state, tokens * r), tokens, r);
    const MatrixView<Real> dprojected = rows(arena, tokens, q), dstate = rows(arena, tokens, r);
    fill_row(Real{0}, dprojected.data, tokens * q);
    fill_row(Real{0}, dstate.data, tokens * r);
    for (Index a = 0; dlogits.dcarry_out && a < count; ++a) {
      const Index t = dlogits.rows == nullptr ? a : Index{dlogits.rows[a]};
      copy_row(dlogits.dcarry_out.row(t), dstate.row(t), r);
    }
    const Index mark = arena.mark();
    output_.backward_rows(dlogits.rows, count, state, dlogits.value, dstate,
                          gradients == nullptr ? nullptr : &gradients->output, arena, executor);
    arena.rewind(mark);
    cell_.backward(dlogits.rows, count, projected, in.carry, tape.cell, dstate, dprojected, dlogits.dcarry,
                   cell_of(gradients), arena, executor);
    arena.rewind(mark);
    input_.backward_rows(dlogits.rows, count, in.x, dprojected, dx,
                         gradients == nullptr ? nullptr : &gradients->input, arena, executor);
    arena.rewind(mark);
  }

  Gradients make_gradients() const {
    Gradients all{input_.make_gradients(), output_.make_gradients()};
    if constexpr (!kShared) all.cell = cell_.make_gradients();
    return all;
  }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    input_.visit_parameters("gate.input", gradients == nullptr ? nullptr : &gradients->input, f);
    output_.visit_parameters("gate.output", gradients == nullptr ? nullptr : &gradients->output, f);
    if constexpr (!kShared) cell_.visit_parameters(cell_of(gradients), f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    input_.visit_storage("gate.input", gradients == nullptr ? nullptr : &gradients->input, f);
    output_.visit_storage("gate.output", gradients == nullptr ? nullptr : &gradients->output, f);
    if constexpr (!kShared) {
      cell_.visit_storage(cell_of(gradients), f);
    } else {
      impl::check_gradients_of(std::as_const(cell_), cell_of(gradients));
    }
  }

 private:
  static MatrixView<Real> rows(Arena& arena, Index tokens, Index columns) {
    MatrixView<Real> view;
    view.data = arena.take<Real>(checked_product("router hidden rows", tokens, columns));
    view.rows = tokens;
    view.cols = view.stride = columns;
    return view;
  }
  static CellGradients* cell_of(Gradients* gradients) noexcept {
    if (gradients == nullptr) return nullptr;
    if constexpr (kShared) {
      return gradients->cell;
    } else {
      return &gradients->cell;
    }
  }
  void check_gradients(Gradients* gradients) const { impl::check_gradients_of(*this, gradients); }

  Cell cell_;
  Projection<Real> input_;
  Projection<Real> output_;
};

MOE_NAMESPACE_END
