// A choice over a whole sequence, foretold row by row: a small predictor beside the scorer learns whether the
// row was taken. Mixture-of-Depths, Raposo et al. 2404.02258, section 3.5.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/view.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/scorer/inner.hpp"
#include "moe/storage/prefixed.hpp"

MOE_NAMESPACE_BEGIN

/// Inner's logits and, last, the predictor's. The predictor reads the same rows, and its gradients stop
/// there: nothing of them gets into dx or Inner. Without a predictor Inner's logits alone, of which the last
/// foretells (the paper's auxiliary loss). Parameters: Inner's, and the predictor's after "predictor.".
template <Scorer Inner, Scorer Predictor>
class ForeseenScorer : public impl::InnerScorer<ForeseenScorer<Inner, Predictor>, Inner> {
  using Base = impl::InnerScorer<ForeseenScorer<Inner, Predictor>, Inner>;

 public:
  using Base::inner;
  using Base::width;
  using Real = typename Inner::Real;
  struct Tape {
    typename Inner::Tape inner;
    typename Predictor::Tape predictor;
  };
  struct Gradients {
    typename Inner::Gradients inner;
    std::optional<typename Predictor::Gradients> predictor;
  };

  /// Throws config_error for a predictor of another width, or of more than one output, and for noise.
  ForeseenScorer(Inner scorer, std::optional<Predictor> predictor)
      : Base(std::move(scorer)), predictor_(std::move(predictor)) {
    if (impl::is_noisy(inner())) fail<config_error>("scorer: expected one without noise beside a predictor");
    if (!predictor_) return;
    require_extent("predictor", "columns", width(), Index{predictor_->width()});
    if (Index{predictor_->outputs()} != 1 || impl::is_noisy(*predictor_)) {
      fail<config_error>("predictor: expected a scorer of 1 output without noise, got ",
                         Index{predictor_->outputs()}, " outputs");
    }
  }

  Index outputs() const noexcept { return inner().outputs() + (predictor_ ? 1 : 0); }
  bool predicts() const noexcept { return predictor_.has_value(); }
  Predictor& predictor() noexcept { return *predictor_; }
  void check(Index outputs) const { impl::check_outputs_of(inner(), outputs - (predictor_ ? 1 : 0)); }
  template <class Call>
  void check_call(const Call& call) const {
    impl::check_call_of(inner(), call);
    if (predictor_) impl::check_call_of(*predictor_, call);
  }
  void initialise(std::uint64_t seed, double scale = 1) {
    inner().initialise(seed, scale);
    if (predictor_) predictor_->initialise(seed + 1, scale);
  }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    impl::visit_names_of(role, inner(), f);
    if (predictor_) impl::visit_names_of("predictor", *predictor_, f);
  }

  void measure(Arena& arena, Index tokens, Index concurrency) const {
    const Index mark = arena.mark();
    inner().measure(arena, tokens, concurrency);
    arena.rewind(mark);
    if (predictor_) predictor_->measure(arena, tokens, concurrency);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    const Index mark = arena.mark();
    inner().measure_backward(arena, tokens, concurrency);
    arena.rewind(mark);
    if (predictor_) predictor_->measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    const Index mark = arena.mark();
    inner().logits(in, Logits<Real>{.value = inners(out.value)}, tape == nullptr ? nullptr : &tape->inner,
                   arena, executor);
    arena.rewind(mark);
    if (!predictor_) return;
    predictor_->logits(in, Logits<Real>{.value = last(out.value)},
                       tape == nullptr ? nullptr : &tape->predictor, arena, executor);
  }

  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    impl::check_gradients_of(*this, gradients);
    Logits<Real> own = dlogits;
    own.value = inners(dlogits.value);
    const Index mark = arena.mark();
    inner().backward(in, tape.inner, own, dx, gradients == nullptr ? nullptr : &gradients->inner, arena,
                     executor);
    arena.rewind(mark);
    if (!predictor_ || gradients == nullptr) return;
    own.value = last(dlogits.value);
    predictor_->backward(in, tape.predictor, own, {}, &*gradients->predictor, arena, executor);
  }

  Gradients make_gradients() const {
    std::optional<typename Predictor::Gradients> of_predictor;
    if (predictor_) of_predictor.emplace(predictor_->make_gradients());
    return {inner().make_gradients(), std::move(of_predictor)};
  }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    inner().visit_parameters(gradients == nullptr ? nullptr : &gradients->inner, f);
    if (!predictor_) return;
    impl::PrefixedVisitor named(f, "predictor", -1);
    predictor_->visit_parameters(gradients == nullptr ? nullptr : &*gradients->predictor, named);
  }
  /// Throws shape_error for gradients with a predictor where there is none, or without.
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    if (gradients != nullptr && gradients->predictor.has_value() != predictor_.has_value()) {
      fail<shape_error>("gradients of the predictor: expected ", predictor_ ? "some" : "none",
                        " (ask make_gradients()), got ", predictor_ ? "none" : "some");
    }
    inner().visit_storage(gradients == nullptr ? nullptr : &gradients->inner, f);
    if (!predictor_) return;
    impl::PrefixedVisitor named(f, "predictor", -1);
    predictor_->visit_storage(gradients == nullptr ? nullptr : &*gradients->predictor, named);
  }

 private:
  MatrixView<Real> inners(MatrixView<Real> all) const noexcept {
    if (predictor_) --all.cols;
    return all;
  }
  static MatrixView<Real> last(MatrixView<Real> all) noexcept {
    if (all.data != nullptr) all.data += all.cols - 1;
    all.cols = 1;
    return all;
  }

  std::optional<Predictor> predictor_;
};

MOE_NAMESPACE_END
