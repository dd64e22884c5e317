// A last output that nothing speaks for: of one logit l and 0 the softmax is sigma(l) and 1 - sigma(l).
#pragma once

#include <cstdint>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/view.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/scorer/inner.hpp"

MOE_NAMESPACE_BEGIN

/// Inner's logits and one more that is 0. Parameters are Inner's.
template <Scorer Inner>
class ZeroLast : public impl::InnerScorer<ZeroLast<Inner>, Inner> {
  using Base = impl::InnerScorer<ZeroLast<Inner>, Inner>;

 public:
  using Base::inner;
  using Real = typename Inner::Real;
  using Tape = typename Inner::Tape;
  using Gradients = typename Inner::Gradients;

  /// Throws config_error for a noisy Inner.
  explicit ZeroLast(Inner scorer) : Base(std::move(scorer)) {
    if (impl::is_noisy(inner())) fail<config_error>("scorer: expected one without noise before a 0");
  }

  Index outputs() const noexcept { return inner().outputs() == 0 ? 0 : inner().outputs() + 1; }
  void check(Index outputs) const { impl::check_outputs_of(inner(), outputs - 1); }
  void initialise(std::uint64_t seed, double scale = 1) { inner().initialise(seed, scale); }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    impl::visit_names_of(role, inner(), f);
    f("logits", "zero_last");
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    inner().logits(in, Logits<Real>{.value = first(out.value)}, tape, arena, executor);
    for (Index t = 0; t < out.value.rows; ++t) out.value(t, out.value.cols - 1) = 0;
  }

  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    Logits<Real> own = dlogits;
    own.value = first(dlogits.value);
    inner().backward(in, tape, own, dx, gradients, arena, executor);
  }

 private:
  static MatrixView<Real> first(MatrixView<Real> all) noexcept {
    --all.cols;
    return all;
  }
};

MOE_NAMESPACE_END
