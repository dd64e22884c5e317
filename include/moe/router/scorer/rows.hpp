// logits = the row itself: somebody else has scored.
#pragma once

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/kernel/row.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/scorer/concept.hpp"

MOE_NAMESPACE_BEGIN

/// Router rows [T, N] are the logits; their gradient is that of the logits. No parameters.
template <class RealType>
class RowScorer {
 public:
  static constexpr const char* kName = "rows";
  using Real = RealType;
  struct Tape {};
  struct Gradients {};

  /// Throws config_error for no outputs.
  explicit RowScorer(Index outputs) : outputs_(outputs) { require_range("outputs", outputs, 1, INT32_MAX); }

  Index width() const noexcept { return outputs_; }
  Index outputs() const noexcept { return outputs_; }

  void measure(Arena&, Index, Index) const noexcept {}
  void measure_backward(Arena&, Index, Index) const noexcept {}

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape*, Arena&, X&) const noexcept {
    for (Index t = 0; t < in.tokens(); ++t) {
      copy_row(in.x.row(t), out.value.row(t), outputs());
      impl::finite_or_spoiled(out.value.row(t), outputs());
    }
  }

  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape&, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients*, Arena&, X&) const noexcept {
    const Index count = dlogits.rows == nullptr ? in.tokens() : dlogits.row_count;
    for (Index a = 0; dx && a < count; ++a) {
      const Index t = dlogits.rows == nullptr ? a : Index{dlogits.rows[a]};
      add_row(dlogits.value.row(t), dx.row(t), outputs());
    }
  }

  Gradients make_gradients() const noexcept { return {}; }
  template <class Visitor>
  void visit_parameters(Gradients*, Visitor&) noexcept {}
  template <class Visitor>
  void visit_storage(Gradients*, Visitor&) noexcept {}

 private:
  impl::Movable<Index> outputs_;
};

MOE_NAMESPACE_END
