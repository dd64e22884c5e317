// A gate for every task over the experts that it sees: HoME (of Kuaishou), Wang et al. 2408.05430.
#pragma once

#include <cstdint>
#include <limits>
#include <utility>

#include "moe/core/part_traits.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/scorer/hierarchy_mask.hpp"
#include "moe/router/task_projection.hpp"

MOE_NAMESPACE_BEGIN

/// Logits of the experts that a row's task (column `task`) sees, W_task x + b_task, the others masked.
/// Parameters "gate.weight" [tasks * seen, D] and "gate.bias" [tasks * seen, 1], task by task, in the order
/// of HierarchyMask::expert().
template <class RealType>
class HierarchyScorer {
 public:
  using Real = RealType;
  static constexpr const char* kName = "hierarchy";
  struct Tape {};
  using Gradients = typename TaskProjection<Real>::Gradients;

  /// Throws config_error for a width below 1.
  HierarchyScorer(Index width, HierarchyMask mask)
      : gate_(width, mask.seen(), mask.tasks()), mask_(std::move(mask)) {}

  Index width() const noexcept { return gate_.width(); }
  Index outputs() const noexcept { return mask_.outputs(); }
  const HierarchyMask& mask() const noexcept { return mask_; }
  void initialise(std::uint64_t seed, double scale = 1) { gate_.initialise(seed, 0, scale); }

  void check(Index outputs) const { mask_.check(outputs); }
  /// Throws what HierarchyMask throws.
  void check_call(const RouterInput<Real>& in) const { mask_.check_call(in); }
  void measure(Arena&, Index, Index) const noexcept {}
  void measure_backward(Arena& arena, Index, Index) const { arena.take<Real>(gate_.outputs()); }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape*, Arena&, X& executor) const {
    executor.parallel_for(in.tokens(), [&](Index t, Index) noexcept {
      Real* const logit = out.value.row(t);
      const bool takes_part = in.takes_part(t);
      fill_row(takes_part ? -std::numeric_limits<Real>::infinity() : Real{0}, logit, outputs());
      for (Index k = 0; takes_part && k < gate_.outputs(); ++k) {
        const Index task = in.task.data()[t];
        const Real value = gate_.output(task, k, in.x.row(t));
        logit[mask_.expert(task, k)] = is_finite(value) ? value : std::numeric_limits<Real>::quiet_NaN();
      }
    });
  }
  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape&, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X&) const {
    impl::check_gradients_of(*this, gradients);
    Real* const own = arena.take<Real>(gate_.outputs());
    const Index count = dlogits.rows == nullptr ? in.tokens() : dlogits.row_count;
    gate_.backward(
        in.x,
        [&](const auto& add) {
          for (Index a = 0; a < count; ++a) {
            const Index t = dlogits.rows == nullptr ? a : Index{dlogits.rows[a]};
            const Index task = in.task.data()[t];
            for (Index k = 0; k < gate_.outputs(); ++k) own[k] = dlogits.value(t, mask_.expert(task, k));
            add(t, task, own);
          }
        },
        dx, gradients);
  }

  Gradients make_gradients() const { return gate_.make_gradients(); }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    gate_.visit_parameters("gate", gradients, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    gate_.visit_storage("gate", gradients, f);
  }

 private:
  TaskProjection<Real> gate_;
  HierarchyMask mask_;
};

MOE_NAMESPACE_END
