// Logits by the task of a row, from the row and from the memory of that task in the layers before: the gates
// of TaskExpert, Ye and Xu 2307.15324.
#pragma once

#include <cstdint>
#include <limits>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/kernel/row.hpp"
#include "moe/product/projection.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/scorer/concept.hpp"

MOE_NAMESPACE_BEGIN

struct TaskMemoryScorerOptions {
  Index width = 0;    // D, of rows and of memory
  Index outputs = 0;  // N, the memory the last of them
  Index tasks = 1;
};

/// logits = W_task x + U_task m, m the row's entry of the column `carry` [T, D], its task that of the column
/// `task`. Without a carry there is no memory: the logits are W_task x, and the last output, which is the
/// memory's expert (expert/bank/memory.hpp), is masked. Hands on m as it came: what becomes the memory is the
/// layer's y. Parameters "gate.weight" and "memory_gate.weight" [tasks * N, D], task by task, zero until
/// initialise().
template <class RealType>
class TaskMemoryScorer {
 public:
  using Real = RealType;
  using Options = TaskMemoryScorerOptions;
  struct Tape {};
  struct Gradients {
    typename Projection<Real>::Gradients row, memory;
  };
  static constexpr const char* kName = "task_memory";

  /// Throws config_error for sizes below 1, or outputs below 2.
  explicit TaskMemoryScorer(const Options& options)
      : row_(checked(options).width, options.tasks * options.outputs, false),
        memory_(options.width, options.tasks * options.outputs, false),
        options_(options) {}

  Index width() const noexcept { return row_.in(); }
  Index outputs() const noexcept { return options_->outputs; }
  Index carry_width() const noexcept { return row_.in(); }
  Index tasks() const noexcept { return options_->tasks; }
  void initialise(std::uint64_t seed, double scale = 1) {
    row_.initialise(seed, 0, scale);
    memory_.initialise(seed, 1, scale);
  }

  /// Throws config_error for a call without tasks if there are several, route_error for one that is not
  /// there, of a row that takes part.
  void check_call(const RouterInput<Real>& in) const {
    if (in.task.empty() && tasks() > 1 && in.tokens() > 0) {
      fail<config_error>("task: expected a task for every row, of ", tasks(), ", got none");
    }
    for (Index t = 0; !in.task.empty() && t < in.tokens(); ++t) {
      if (in.takes_part(t) && (in.task[t] < 0 || in.task[t] >= tasks())) {
        fail<route_error>("task: expected a task in [0, ", tasks(), "), got ", in.task[t], " for row ", t);
      }
    }
  }

  void measure(Arena& arena, Index tokens, Index) const {
    take_rows(arena, tokens), take_rows(arena, tokens);
    row_.measure(arena, tokens);
    memory_.measure(arena, tokens);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    take_rows(arena, tokens);
    row_.measure_backward(arena, tokens, concurrency);
    memory_.measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape*, Arena& arena, X& executor) const {
    const MatrixView<Real> of_row = take_rows(arena, in.tokens()), of_memory = take_rows(arena, in.tokens());
    row_.forward(in.x, of_row, arena, executor);
    if (in.carry) memory_.forward(in.carry, of_memory, arena, executor);
    const Index n = outputs();
    executor.parallel_for(in.tokens(), [&](Index t, Index) noexcept {
      Real* const logit = out.value.row(t);
      copy_row(of_row.row(t) + first_of(in, t), logit, n);
      if (in.carry) add_row(of_memory.row(t) + first_of(in, t), logit, n);
      const bool finite = impl::finite_or_spoiled(logit, n);
      if (!in.carry && finite) logit[n - 1] = -std::numeric_limits<Real>::infinity();
      if (!out.carry) return;
      in.carry ? copy_row(in.carry.row(t), out.carry.row(t), width())
               : fill_row(Real{0}, out.carry.row(t), width());
    });
  }

  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape&, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    impl::check_gradients_of(*this, gradients);
    const Index count = dlogits.rows == nullptr ? in.tokens() : dlogits.row_count, n = outputs();
    const MatrixView<Real> d = take_rows(arena, in.tokens());
    executor.parallel_for(count, [&](Index a, Index) noexcept {
      const Index t = dlogits.rows == nullptr ? a : Index{dlogits.rows[a]};
      fill_row(Real{0}, d.row(t), d.cols);
      copy_row(dlogits.value.row(t), d.row(t) + first_of(in, t), n);
      if (!in.carry) d.row(t)[first_of(in, t) + n - 1] = 0;  // masked
      if (dlogits.dcarry && dlogits.dcarry_out)
        add_row(dlogits.dcarry_out.row(t), dlogits.dcarry.row(t), width());
    });
    row_.backward_rows(dlogits.rows, count, in.x, d, dx, gradients == nullptr ? nullptr : &gradients->row,
                       arena, executor);
    if (!in.carry) return;
    memory_.backward_rows(dlogits.rows, count, in.carry, d, dlogits.dcarry,
                          gradients == nullptr ? nullptr : &gradients->memory, arena, executor);
  }

  Gradients make_gradients() const { return {row_.make_gradients(), memory_.make_gradients()}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    row_.visit_parameters("gate", gradients == nullptr ? nullptr : &gradients->row, f);
    memory_.visit_parameters("memory_gate", gradients == nullptr ? nullptr : &gradients->memory, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    row_.visit_storage("gate", gradients == nullptr ? nullptr : &gradients->row, f);
    memory_.visit_storage("memory_gate", gradients == nullptr ? nullptr : &gradients->memory, f);
  }

 private:
  static const Options& checked(const Options& options) {
    require_range("tasks", options.tasks, 1, INT32_MAX);
    require_range("outputs", options.outputs, 2, INT32_MAX / options.tasks);
    return options;
  }
  MatrixView<Real> take_rows(Arena& arena, Index tokens) const {
    MatrixView<Real> view;
    view.data = arena.take<Real>(checked_product("logits of all tasks", tokens, row_.out()));
    view.rows = tokens;
    view.cols = view.stride = row_.out();
    return view;
  }
  /// The first of the row's outputs among all tasks'; of a row that takes no part some that are there.
  Index first_of(const RouterInput<Real>& in, Index t) const noexcept {
    return in.task.empty() || !in.takes_part(t) ? 0 : Index{in.task[t]} * outputs();
  }

  Projection<Real> row_;
  Projection<Real> memory_;
  impl::Movable<Options> options_;
};

MOE_NAMESPACE_END
