// A loss of the first stage of a training in two.
#pragma once

#include <utility>

#include "moe/router/balance/concept.hpp"

MOE_NAMESPACE_BEGIN

/// The inner loss while the scorer says that it is in its first stage, 0 afterwards.
template <class Inner>
class FirstStage {
 public:
  static constexpr const char* kName = Inner::kName;

  explicit FirstStage(Inner inner) : inner_(std::move(inner)) {}

  double coefficient() const noexcept { return inner_.coefficient(); }
  void measure(Arena& arena, Index tokens, Index outputs) const { inner_.measure(arena, tokens, outputs); }

  template <class Real, class Scorer>
  requires requires(const Scorer& s) { s.first_stage(); }
  double forward(const BalanceInput<Real>& in, const Scorer& scorer, Arena& arena) const {
    return scorer.first_stage() ? inner_.forward(in, arena) : 0.0;
  }
  template <class Real, class Scorer>
  requires requires(const Scorer& s) { s.first_stage(); }
  void backward(const BalanceInput<Real>& in, const Scorer& scorer, double scale,
                const BalanceGradients<Real>& out, typename Scorer::Gradients*, Arena& arena) const {
    if (scorer.first_stage()) inner_.backward(in, scale, out, arena);
  }

 private:
  Inner inner_;
};

MOE_NAMESPACE_END
