// What a scorer that wraps another has of it.
#pragma once

#include <utility>

#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/router/scorer/concept.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// A scorer `Self` over Inner: all of Inner's members but `logits`, which Self adds. What Self does otherwise
/// it declares again.
template <class Self, Scorer Inner>
class InnerScorer : public InnerHooks<Self, Inner> {
 public:
  using Real = typename Inner::Real;
  using Tape = typename Inner::Tape;
  using Gradients = typename Inner::Gradients;

  explicit InnerScorer(Inner inner) : inner_(std::move(inner)) {}

  bool noisy() const noexcept { return is_noisy(inner_); }
  Index width() const noexcept { return inner_.width(); }
  Index outputs() const noexcept { return inner_.outputs(); }
  Index carry_width() const noexcept { return carry_width_of(inner_); }
  Inner& inner() noexcept { return inner_; }
  const Inner& inner() const noexcept { return inner_; }

  void measure(Arena& arena, Index tokens, Index concurrency) const {
    inner_.measure(arena, tokens, concurrency);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    inner_.measure_backward(arena, tokens, concurrency);
  }
  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    inner_.backward(in, tape, dlogits, dx, gradients, arena, executor);
  }

  Gradients make_gradients() const { return inner_.make_gradients(); }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    inner_.visit_parameters(gradients, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    inner_.visit_storage(gradients, f);
  }

 private:
  Inner inner_;
};

}  // namespace impl

MOE_NAMESPACE_END
