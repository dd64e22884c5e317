// A scorer some of whose outputs are hidden from a row before anything is made of the logits.
#pragma once

#include <concepts>
#include <limits>
#include <utility>

#include "moe/core/part_traits.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/router/scorer/concept.hpp"

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
class MaskedScorer : public impl::InnerHooks<MaskedScorer<Inner, Mask>, Inner> {
 public:
  using Real = typename Inner::Real;
  using Tape = typename Inner::Tape;
  using Gradients = typename Inner::Gradients;

  MaskedScorer(Inner inner, Mask mask) : inner_(std::move(inner)), mask_(std::move(mask)) {}

  bool noisy() const noexcept { return impl::is_noisy(inner_); }
  Index width() const noexcept { return inner_.width(); }
  Index outputs() const noexcept { return inner_.outputs(); }
  Inner& inner() noexcept { return inner_; }
  const Inner& inner() const noexcept { return inner_; }
  const Mask& mask() const noexcept { return mask_; }

  static constexpr Coupling coupling(bool training) noexcept {
    return weakest(impl::coupling_of<Inner>(training), impl::coupling_of<Mask>(training));
  }
  void check(Index outputs) const {
    impl::check_outputs_of(inner_, outputs);
    impl::check_outputs_of(mask_, outputs);
  }
  template <class Call>
  void check_call(const Call& call) const {
    impl::check_call_of(inner_, call);
    impl::check_call_of(mask_, call);
  }
  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    impl::visit_names_of(role, inner_, f);
    impl::visit_names_of("logits", mask_, f);
  }

  void measure(Arena& arena, Index tokens, Index concurrency) const {
    mask_.measure(arena, outputs());
    inner_.measure(arena, tokens, concurrency);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    mask_.measure(arena, outputs());
    inner_.measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    const auto hidden = mask_.hidden(in, outputs(), arena);
    inner_.logits(in, out, tape, arena, executor);
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
  Mask mask_;
};

MOE_NAMESPACE_END
