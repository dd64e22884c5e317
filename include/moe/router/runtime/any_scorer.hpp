// A scorer chosen at run time, its rows normed or not, with or without a gating residual, its logits mapped
// or not.
#pragma once

#include <cstdint>
#include <type_traits>
#include <variant>

#include "moe/core/one_of.hpp"
#include "moe/core/type_list.hpp"
#include "moe/router/runtime/any_logit_map.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/scorer/gating_residual.hpp"
#include "moe/router/scorer/list.hpp"
#include "moe/router/scorer/mapped.hpp"
#include "moe/router/scorer/normed.hpp"

MOE_NAMESPACE_BEGIN

/// A scorer of the library that has parameters of its own.
template <class RealType>
class OneScorer : public FromList<OneOf, Scorers<RealType>> {
  using Base = FromList<OneOf, Scorers<RealType>>;

 public:
  using Base::Base;
  using Real = RealType;
  using typename Base::Gradients;
  using typename Base::Tape;

  bool noisy() const noexcept {
    return this->visit([](const auto& part) { return impl::is_noisy(part); });
  }
  Index width() const noexcept {
    return this->visit([](const auto& part) { return Index{part.width()}; });
  }
  Index outputs() const noexcept {
    return this->visit([](const auto& part) { return Index{part.outputs()}; });
  }
  void initialise(std::uint64_t seed) {
    this->visit([&](auto& part) { part.initialise(seed); });
  }
  void measure(Arena& arena, Index tokens, Index concurrency) const {
    this->visit([&](const auto& part) { part.measure(arena, tokens, concurrency); });
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    this->visit([&](const auto& part) { part.measure_backward(arena, tokens, concurrency); });
  }
  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    this->visit([&](const auto& part) { part.logits(in, out, Base::tape_of(part, tape), arena, executor); });
  }
  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    this->visit([&](const auto& part) {
      part.backward(in, Base::tape_of(part, tape), dlogits, dx, Base::own(part, gradients), arena, executor);
    });
  }
};

namespace impl {
template <class... Parts>
using VariantOfOptions = std::variant<OptionsOf<Parts>...>;
}  // namespace impl

/// The options of any scorer of the library.
using AnyScorerOptions = FromList<impl::VariantOfOptions, Scorers<float>>;

/// Built of parts: AnyScorer<float>(GatingResidual(NormedScorer(OneScorer<float>(LinearScorer<float>(...)),
/// InputNorm{.enabled = false}), false), AnyLogitMap()).
template <class Real>
using AnyScorer = MappedScorer<GatingResidual<NormedScorer<OneScorer<Real>>>, AnyLogitMap>;

MOE_NAMESPACE_END
