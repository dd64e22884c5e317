// A scorer that reads what the call says of a row, not the row: the column `features`.
#pragma once

#include <cstdint>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/scorer/inner.hpp"

MOE_NAMESPACE_BEGIN

/// Inner's logits of the column `features` [T, S], S Inner's width. The rows themselves get no gradient.
template <Scorer Inner>
class FeatureScorer : public impl::InnerScorer<FeatureScorer<Inner>, Inner> {
  using Base = impl::InnerScorer<FeatureScorer<Inner>, Inner>;

 public:
  using Base::inner;
  using Real = typename Inner::Real;
  using Tape = typename Inner::Tape;
  using Gradients = typename Inner::Gradients;

  explicit FeatureScorer(Inner scorer) : Base(std::move(scorer)) {}

  /// Columns of the rows that it reads: none.
  Index width() const noexcept { return 0; }
  void initialise(std::uint64_t seed, double scale = 1) { inner().initialise(seed, scale); }

  /// Throws config_error for a call without features, shape_error for features of another width.
  void check_call(const RouterInput<Real>& in) const {
    if (in.tokens() > 0 && !in.features) {
      fail<config_error>("features: expected ", Index{inner().width()},
                         " columns for a router that reads them, ", "got none");
    }
    if (in.features) require_extent("features", "columns", Index{inner().width()}, in.features.cols);
    impl::check_call_of(inner(), in);
  }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    f("rows", "features");
    impl::visit_names_of(role, inner(), f);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    inner().logits(features(in), out, tape, arena, executor);
  }
  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>&, Gradients* gradients, Arena& arena, X& executor) const {
    inner().backward(features(in), tape, dlogits, {}, gradients, arena, executor);
  }

 private:
  static RouterInput<Real> features(const RouterInput<Real>& in) noexcept {
    RouterInput<Real> read = in;
    if (in.tokens() > 0) read.x = in.features;
    return read;
  }
};

MOE_NAMESPACE_END
