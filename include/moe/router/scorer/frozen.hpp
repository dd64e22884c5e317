// A scorer that is not trained: SMoE-Dropout, Chen et al. 2303.01610, routes by random weights for good.
#pragma once

#include <utility>

#include "moe/core/part_traits.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/scorer/inner.hpp"

MOE_NAMESPACE_BEGIN

/// Inner's logits; its parameters are shown, saved and loaded, and have no gradients. dx is Inner's.
template <Scorer Inner>
class FrozenScorer : public impl::InnerScorer<FrozenScorer<Inner>, Inner> {
  using Base = impl::InnerScorer<FrozenScorer<Inner>, Inner>;

 public:
  using Base::inner;
  using Real = typename Inner::Real;
  using Tape = typename Inner::Tape;
  struct Gradients {};

  explicit FrozenScorer(Inner scorer) : Base(std::move(scorer)) {}

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    f(role, "frozen");
    impl::visit_names_of(role, inner(), f);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    inner().logits(in, out, tape, arena, executor);
  }
  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients*, Arena& arena, X& executor) const {
    inner().backward(in, tape, dlogits, dx, nullptr, arena, executor);
  }

  Gradients make_gradients() const noexcept { return {}; }
  template <class Visitor>
  void visit_parameters(Gradients*, Visitor& f) {
    inner().visit_parameters(nullptr, f);
  }
  template <class Visitor>
  void visit_storage(Gradients*, Visitor& f) {
    inner().visit_storage(nullptr, f);
  }
};

MOE_NAMESPACE_END
