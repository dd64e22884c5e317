// A scorer some of whose outputs are hidden from a row before anything is made of the logits.
#pragma once

#include <concepts>
#include <limits>
#include <utility>

#include "moe/core/part_traits.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/scorer/inner.hpp"

MOE_NAMESPACE_BEGIN

/// `hidden(call, n, arena)`: a predicate (token, output) -> bool, noexcept, that holds while the arena does,
/// and leaves every row that takes part at least one of its n outputs. `measure(arena, n)` takes what it
/// takes. May have kName, check(outputs), check_call(call), coupling(training).
template <class M>
concept ExpertMask = std::copy_constructible<M> &&
    requires(const M& m, const RouterInput<float>& in, Arena& a) {
  { m.hidden(in, Index{}, a)(Index{}, Index{}) } -> std::same_as<bool>;
  m.measure(a, Index{});
};

/// Inner's logits, -inf where the mask hides them. Parameters are Inner's.
template <Scorer Inner, ExpertMask Mask>
class MaskedScorer : public impl::InnerScorer<MaskedScorer<Inner, Mask>, Inner> {
  using Base = impl::InnerScorer<MaskedScorer<Inner, Mask>, Inner>;

 public:
  using Base::inner;
  using Base::outputs;
  using Real = typename Inner::Real;
  using Tape = typename Inner::Tape;
  using Gradients = typename Inner::Gradients;

  MaskedScorer(Inner scorer, Mask mask) : Base(std::move(scorer)), mask_(std::move(mask)) {}

  const Mask& mask() const noexcept { return mask_; }

  static constexpr Coupling coupling(bool training) noexcept {
    return weakest(impl::coupling_of<Inner>(training), impl::coupling_of<Mask>(training));
  }
  void check(Index n) const {
    impl::check_outputs_of(inner(), n);
    impl::check_outputs_of(mask_, n);
  }
  template <class Call>
  void check_call(const Call& call) const {
    impl::check_call_of(inner(), call);
    impl::check_call_of(mask_, call);
  }
  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    impl::visit_names_of(role, inner(), f);
    impl::visit_names_of("logits", mask_, f);
  }

  void measure(Arena& arena, Index tokens, Index concurrency) const {
    mask_.measure(arena, outputs());
    inner().measure(arena, tokens, concurrency);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    mask_.measure(arena, outputs());
    inner().measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    const auto hidden = mask_.hidden(in, outputs(), arena);
    inner().logits(in, out, tape, arena, executor);
    executor.parallel_for(in.tokens(), [&](Index t, Index) noexcept {
      constexpr Real kHidden = -std::numeric_limits<Real>::infinity();
      if (first_bad_logit(out.value.row(t), outputs()) >= 0) return;  // what is not finite must show
      for (Index e = 0; e < outputs(); ++e) {
        if (!hidden(t, e)) continue;
        out.value(t, e) = kHidden;
        if (!out.clean.empty()) out.clean(t, e) = kHidden;
      }
    });
  }

  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    const auto hidden = mask_.hidden(in, outputs(), arena);
    const Index count = dlogits.rows == nullptr ? in.tokens() : dlogits.row_count;
    executor.parallel_for(count, [&](Index a, Index) noexcept {
      const Index t = dlogits.rows == nullptr ? a : Index{dlogits.rows[a]};
      for (const MatrixView<Real>& d : {dlogits.value, dlogits.clean, dlogits.noise_scale}) {
        for (Index e = 0; e < d.cols; ++e) {
          if (hidden(t, e)) d(t, e) = 0;
        }
      }
    });
    inner().backward(in, tape, dlogits, dx, gradients, arena, executor);
  }

 private:
  Mask mask_;
};

MOE_NAMESPACE_END
