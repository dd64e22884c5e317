// The hooks that parts of a TokenChoice may have, held against what can be called: sentences of the
// compiler's.
#pragma once

#include <concepts>

#include "moe/core/input.hpp"
#include "moe/core/near_miss.hpp"
#include "moe/core/part_hooks.hpp"
#include "moe/core/types.hpp"
#include "moe/router/score/concept.hpp"
#include "moe/router/selection/concept.hpp"
#include "moe/router/weighting/concept.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// True, or no program.
template <class S, class F, class Select, class W, class Balance>
consteval bool refuse_wrong_token_choice_parts() {
  using Real = typename S::Real;
  using Call = RouterInput<Real>;
  static_assert(refuse_wrong_hooks<S, Call>() && refuse_wrong_hooks<F, Call>() &&
                refuse_wrong_hooks<Select, Call>() && refuse_wrong_hooks<W, Call>() &&
                refuse_near_misses<F, Hook::add_gradients>() &&
                refuse_near_misses<Select, Hook::add_gradients, Hook::log_probability,
                                   Hook::log_probability_backward>() &&
                refuse_near_misses<W, Hook::add_gradients, Hook::experts>() &&
                Balance::template refuse_wrong_parts<Real, S>());
  static_assert(absent_or<S, Hook::noisy>(requires(const S& s) {
                  { s.noisy() } -> std::convertible_to<bool>;
                }),
                "moe: a scorer has a noisy() that cannot be called: bool noisy() const");
  static_assert(absent_or<S, Hook::carry_width>(requires(const S& s) {
                  { s.carry_width() } -> std::convertible_to<Index>;
                }) &&
                    refuse_near_misses<S, Hook::carry_width>(),
                "moe: a scorer has a carry_width() that cannot be called: Index carry_width() const");
  static_assert(
      absent_or<W, Hook::experts>(requires(const W& w) {
        { w.experts(Index{}) } -> std::convertible_to<Index>;
      }),
      "moe: a weighting has an experts() that cannot be called: Index experts(Index outputs) const");
  static_assert(
      (kOwnPart<F> || !kHasGradients<F> || LearningScore<F, Real>)&&(
          kOwnPart<Select> || !kHasGradients<Select> ||
          LearningSelection<Select, Real>)&&(kOwnPart<W> || !kHasGradients<W> || LearningWeighting<W, Real>),
      "moe: a score, selection or weighting has Gradients and no add_gradients(): its parameters would never "
      "train");
  static_assert(
      absent_or<F, Hook::add_gradients>(LearningScore<F, Real>),
      "moe: a score has an add_gradients() that cannot be called: "
      "void add_gradients(const RowContext<Real>& row, const Real* dscore, Gradients& gradients) const");
  static_assert(
      absent_or<Select, Hook::add_gradients>(LearningSelection<Select, Real>),
      "moe: a selection has an add_gradients() that cannot be called: void add_gradients(const "
      "RowContext<Real>& row, const Chosen& chosen, const Real* dweight, Gradients& gradients) const");
  static_assert(
      absent_or<Select, Hook::log_probability>(SampledSelection<Select, Real>) &&
          absent_or<Select, Hook::log_probability_backward>(SampledSelection<Select, Real>),
      "moe: a selection has log_probability() or log_probability_backward() and they cannot both be called: "
      "double log_probability(const RowContext<Real>& row, const Chosen& chosen) const, void "
      "log_probability_backward(const RowContext<Real>& row, const Chosen& chosen, double advantage, Real* "
      "dlogit) const");
  static_assert(
      absent_or<W, Hook::add_gradients>(LearningWeighting<W, Real>),
      "moe: a weighting has an add_gradients() that cannot be called: void add_gradients(const "
      "RowContext<Real>& row, const Chosen& chosen, const Real* dweight, const WeightScratch<Real>& scratch, "
      "Gradients& gradients) const");
  return true;
}

}  // namespace impl

MOE_NAMESPACE_END
