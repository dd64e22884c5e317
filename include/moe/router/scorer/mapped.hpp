// A scorer with a map of its logits behind it.
#pragma once

#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/kernel/row.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/scorer/map/concept.hpp"

MOE_NAMESPACE_BEGIN

/// Inner's logits through the map; a row that is not finite, which a map might hide, stays so. Parameters are
/// Inner's.
template <Scorer Inner, LogitMap Map>
class MappedScorer : public impl::InnerHooks<MappedScorer<Inner, Map>, Inner> {
 public:
  using Real = typename Inner::Real;
  using Gradients = typename Inner::Gradients;
  struct Tape {
    typename Inner::Tape inner;
    Buffer<Real> raw;  // [T, N] logits before the map
  };

  /// Throws config_error for a noisy scorer and a map that changes logits: noise comes behind clean logits.
  MappedScorer(Inner inner, Map map) : inner_(std::move(inner)), map_(std::move(map)) {
    if (noisy() && !impl::is_identity(map_)) {
      fail<config_error>("scorer: expected no map of the logits of a noisy scorer, got one");
    }
  }

  bool noisy() const noexcept { return impl::is_noisy(inner_); }

  Index width() const noexcept { return inner_.width(); }
  Index outputs() const noexcept { return inner_.outputs(); }
  Inner& inner() noexcept { return inner_; }
  const Inner& inner() const noexcept { return inner_; }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    impl::visit_names_of(role, inner_, f);
    if (!impl::is_identity(map_)) impl::visit_names_of("logits", map_, f);
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
    inner_.logits(in, out, tape == nullptr ? nullptr : &tape->inner, arena, executor);
    const Index n = outputs();
    Real* const raw = tape == nullptr ? nullptr : tape->raw.resize(checked_product("tape", in.tokens(), n));
    executor.parallel_for(in.tokens(), [&](Index t, Index) noexcept {
      if (raw != nullptr) copy_row(out.value.row(t), raw + t * n, n);
      if (!in.takes_part(t) || impl::is_identity(map_)) return;
      if (impl::finite_or_spoiled(out.value.row(t), n)) map_.forward(out.value.row(t), n);
    });
  }

  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    const Index count = dlogits.rows == nullptr ? in.tokens() : dlogits.row_count;
    const Real* const raw = impl::taped("mapped scorer", tape.raw, in.tokens() * outputs());
    executor.parallel_for(count, [&](Index a, Index) noexcept {
      const Index t = dlogits.rows == nullptr ? a : Index{dlogits.rows[a]};
      map_.backward(raw + t * outputs(), dlogits.value.row(t), outputs());
    });
    inner_.backward(in, tape.inner, dlogits, dx, gradients, arena, executor);
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
  Map map_;
};

MOE_NAMESPACE_END
