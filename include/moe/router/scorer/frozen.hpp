// A scorer that is not trained: SMoE-Dropout, Chen et al. 2303.01610, routes by random weights for good.
#pragma once

#include <utility>

#include "moe/core/part_traits.hpp"
#include "moe/router/scorer/concept.hpp"

MOE_NAMESPACE_BEGIN

/// Inner's logits; its parameters are shown, saved and loaded, and have no gradients. dx is Inner's.
template <Scorer Inner>
class FrozenScorer : public impl::InnerHooks<FrozenScorer<Inner>, Inner> {
 public:
  using Real = typename Inner::Real;
  using Tape = typename Inner::Tape;
  struct Gradients {};

  explicit FrozenScorer(Inner inner) : inner_(std::move(inner)) {}

  bool noisy() const noexcept { return impl::is_noisy(inner_); }
  Index width() const noexcept { return inner_.width(); }
  Index outputs() const noexcept { return inner_.outputs(); }
  Inner& inner() noexcept { return inner_; }
  const Inner& inner() const noexcept { return inner_; }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    f(role, "frozen");
    impl::visit_names_of(role, inner_, f);
  }

  void measure(Arena& arena, Index tokens, Index concurrency) const {
    inner_.measure(arena, tokens, concurrency);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    inner_.measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    inner_.logits(in, out, tape, arena, executor);
  }
  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients*, Arena& arena, X& executor) const {
    inner_.backward(in, tape, dlogits, dx, nullptr, arena, executor);
  }

  Gradients make_gradients() const noexcept { return {}; }
  template <class Visitor>
  void visit_parameters(Gradients*, Visitor& f) {
    inner_.visit_parameters(nullptr, f);
  }
  template <class Visitor>
  void visit_storage(Gradients*, Visitor& f) {
    inner_.visit_storage(nullptr, f);
  }

 private:
  Inner inner_;
};

MOE_NAMESPACE_END
