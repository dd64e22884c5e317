// One trained factor per expert on the combine weights (Gemma 4's per_expert_scale), after any normalisation.
#pragma once

#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/router/weighting/concept.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

/// weight of expert e times factor[e]; without factors (0 outputs) the inner weighting, bit for bit.
/// Parameter "per_expert_scale" [N, 1], 1 at first.
template <class RealType, Weighting Inner>
class ExpertScale : public impl::InnerHooks<ExpertScale<RealType, Inner>, Inner> {
 public:
  using Real = RealType;
  struct Gradients {
    Buffer<Real> factor;  // [N] or empty
    impl::GradientsOf<Inner> inner;
  };

  /// Factors for a router of `outputs` outputs; 0: none.
  explicit ExpertScale(Inner inner, Index outputs = 0) : inner_(std::move(inner)), factors_(outputs) {
    factor_.assign(outputs, Real{1});
  }

  Inner& inner() noexcept { return inner_; }
  const Inner& inner() const noexcept { return inner_; }
  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    impl::visit_names_of(role, inner_, f);
    if (!factor_.empty()) f(role, "expert_scale");
  }
  Index experts(Index outputs) const noexcept { return impl::experts_of(inner_, outputs); }
  /// Throws config_error if there are factors for another number of outputs.
  void check(Index outputs) const {
    impl::require_there("per-expert scale", factor_.size() == factors_);
    if (!factor_.empty() && factor_.size() != outputs) {
      fail<config_error>("per-expert scale: expected a factor for each of ", outputs, " outputs, got ",
                         factor_.size());
    }
    impl::check_outputs_of(inner_, outputs);
  }

  void forward(const RowContext<Real>& row, const Chosen& chosen, Real* weight, bool* keep) const noexcept {
    inner_.forward(row, chosen, weight, keep);
    for (Index i = 0; i < chosen.count && !factor_.empty(); ++i) weight[i] *= factor_[chosen.id[i]];
  }

  void backward(const RowContext<Real>& row, const Chosen& chosen, Real* dweight,
                Real* dscore) const noexcept {
    for (Index i = 0; i < chosen.count && !factor_.empty(); ++i) dweight[i] *= factor_[chosen.id[i]];
    inner_.backward(row, chosen, dweight, dscore);
  }

  /// d factor_e = d weight_i * (the inner weight of choice i, whose expert is e).
  void add_gradients(const RowContext<Real>& row, const Chosen& chosen, const Real* dweight,
                     const WeightScratch<Real>& scratch, Gradients& gradients) const noexcept {
    if (!factor_.empty()) {
      inner_.forward(row, chosen, scratch.weight, scratch.keep);
      for (Index i = 0; i < chosen.count; ++i) {
        gradients.factor[chosen.id[i]] += dweight[i] * scratch.weight[i];
      }
    }
    if constexpr (LearningWeighting<Inner, Real>) {
      for (Index i = 0; i < chosen.count; ++i) {
        scratch.dweight[i] = factor_.empty() ? dweight[i] : dweight[i] * factor_[chosen.id[i]];
      }
      inner_.add_gradients(row, chosen, scratch.dweight, scratch, gradients.inner);
    }
  }

  Gradients make_gradients() const { return {Buffer<Real>(factor_.size()), impl::make_gradients_of(inner_)}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    if (!factor_.empty()) {
      f(Parameter<Real>{"per_expert_scale", view(factor_),
                        gradients == nullptr ? ParameterView<Real>{} : view(gradients->factor)});
    }
    impl::visit_parameters_of(inner_, gradients == nullptr ? nullptr : &gradients->inner, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    visit_buffer(f, "per_expert_scale", factor_, gradients, &Gradients::factor);
    impl::visit_storage_of(inner_, gradients == nullptr ? nullptr : &gradients->inner, f);
  }

 private:
  static ParameterView<Real> view(Buffer<Real>& values) noexcept { return {values.data(), values.size(), 1}; }

  Inner inner_;
  Index factors_;        // what factor_ has until it is moved from
  Buffer<Real> factor_;  // [N] or empty
};

MOE_NAMESPACE_END
