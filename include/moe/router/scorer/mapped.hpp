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
#include "moe/router/scorer/inner.hpp"
#include "moe/router/scorer/map/concept.hpp"

MOE_NAMESPACE_BEGIN

/// Inner's logits through the map; a row that is not finite, which a map might hide, stays so. Parameters are
/// Inner's.
template <Scorer Inner, LogitMap Map>
class MappedScorer : public impl::InnerScorer<MappedScorer<Inner, Map>, Inner> {
  using Base = impl::InnerScorer<MappedScorer<Inner, Map>, Inner>;

 public:
  using Base::inner;
  using Base::outputs;
  using Real = typename Inner::Real;
  using Gradients = typename Inner::Gradients;
  struct Tape {
    typename Inner::Tape inner;
    Buffer<Real> raw;  // [T, N] logits before the map
  };

  /// Throws config_error for a noisy scorer and a map that changes logits: noise comes behind clean logits.
  MappedScorer(Inner scorer, Map map) : Base(std::move(scorer)), map_(std::move(map)) {
    if (impl::is_noisy(inner()) && !impl::is_identity(map_)) {
      fail<config_error>("scorer: expected no map of the logits of a noisy scorer, got one");
    }
  }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    impl::visit_names_of(role, inner(), f);
    if (!impl::is_identity(map_)) impl::visit_names_of("logits", map_, f);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    inner().logits(in, out, tape == nullptr ? nullptr : &tape->inner, arena, executor);
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
    inner().backward(in, tape.inner, dlogits, dx, gradients, arena, executor);
  }

 private:
  Map map_;
};

MOE_NAMESPACE_END
