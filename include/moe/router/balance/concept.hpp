// Balancing of token-choice routers: auxiliary losses with their gradients, and state that is updated between
// steps. A router has a pack of parts; each is one file (load_balance.hpp, z.hpp, selection_bias.hpp, ...).
#pragma once

#include <concepts>
#include <tuple>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/input.hpp"
#include "moe/core/part_hooks.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/plan/losses.hpp"
#include "moe/plan/statistics.hpp"

MOE_NAMESPACE_BEGIN

/// What a part of the balancing may look at. N is the number of the router's outputs (null experts included),
/// M the room for choices per token. Rows that are padding or spoiled are not active; every loss skips them.
template <class Real>
struct BalanceInput {
  const RouterInput<Real>& call;
  ConstMatrixView<Real> logit;          // [T, N] what was scored: with noise, mask and previous layers added
  ConstMatrixView<Real> clean{};        // [T, N] before noise; empty without noise
  ConstMatrixView<Real> noise_scale{};  // [T, N] standard deviation of the noise
  ConstMatrixView<Real> score;          // [T, N]
  ConstMatrixView<Real> probability;    // [T, N] each active row a distribution
  const ExpertId* chosen = nullptr;     // [T, M] first choice first
  const Index* chosen_count = nullptr;  // [T]
  const Real* weight = nullptr;         // [T, M]
  const bool* keep = nullptr;           // [T, M] routed to a real expert
  Index most = 0;                       // M
  const bool* active = nullptr;         // [T]
  Index active_count = 0;

  Index tokens() const noexcept { return logit.rows; }
  Index outputs() const noexcept { return logit.cols; }
  const ExpertId* choices(Index t) const noexcept { return chosen + t * most; }
};

/// Where gradients of losses are added; same shapes.
template <class Real>
struct BalanceGradients {
  MatrixView<Real> dlogit;
  MatrixView<Real> dclean{};
  MatrixView<Real> dnoise_scale{};
  MatrixView<Real> dscore;
  MatrixView<Real> dprobability;
  Real* dweight = nullptr;  // [T, M]
};

namespace impl {

/// Throws config_error for a coefficient that is not finite.
inline double checked_coefficient(const char* loss, double coefficient) {
  if (!is_finite(coefficient)) fail<config_error>(loss, ": expected a finite coefficient, got ", coefficient);
  return coefficient;
}

/// A scorer that nobody has, to ask whether a loss reads one.
struct NoScorer {
  struct Gradients {};
};

template <class P, class Real>
concept PlainLoss = requires(const P& p, const BalanceInput<Real>& in, const BalanceGradients<Real>& out,
                             Arena& a) {
  { p.forward(in, a) } -> std::same_as<double>;
  p.backward(in, 1.0, out, a);
};
template <class P, class Real>
concept LearningLoss = requires(const P& p, const BalanceInput<Real>& in, const BalanceGradients<Real>& out,
                                GradientsOf<P>* g, Arena& a) {
  { p.forward(in, a) } -> std::same_as<double>;
  p.backward(in, 1.0, out, g, a);
};
template <class P, class Real, class Scorer>
concept ScorerLoss = requires(const P& p, const BalanceInput<Real>& in, const BalanceGradients<Real>& out,
                              const Scorer& scorer, typename Scorer::Gradients* g, Arena& a) {
  { p.forward(in, scorer, a) } -> std::same_as<double>;
  p.backward(in, scorer, 1.0, out, g, a);
};

template <class P, class Real, class Scorer>
concept LearningScorerLoss = requires(const P& p, const BalanceInput<Real>& in,
                                      const BalanceGradients<Real>& out, const Scorer& scorer,
                                      typename Scorer::Gradients* s, GradientsOf<P>* g, Arena& a) {
  { p.forward(in, scorer, a) } -> std::same_as<double>;
  p.backward(in, scorer, 1.0, out, s, g, a);
};

template <class P>
concept BiasesSelection = requires(const P& p) {
  p.selection_bias();
};

/// False only for a loss that is switched off.
template <class P>
bool is_on(const P& part) noexcept {
  if constexpr (requires { part.coefficient(); }) {
    return part.coefficient() != 0;
  } else {
    return true;
  }
}

}  // namespace impl

/// A loss is what has `forward` and `backward`: `forward(in, arena)` returns the loss, coefficient applied,
/// summed in double over tokens in ascending order; `backward(in, scale, out, arena)` adds its gradient times
/// `scale`. A loss with parameters of its own takes its gradients before the arena, `backward(in, scale, out,
/// gradients, arena)` (null: frozen); one that reads the scorer takes that behind `in`, `forward(in, scorer,
/// arena)` and `backward(in, scorer, scale, out, scorer_gradients, arena)`; one that does both takes its own
/// gradients behind the scorer's.
template <class P, class Real, class Scorer = impl::NoScorer>
concept Loss = impl::PlainLoss<P, Real> || impl::LearningLoss<P, Real> || impl::ScorerLoss<P, Real, Scorer> ||
    impl::LearningScorerLoss<P, Real, Scorer>;

namespace impl {

/// Whose hooks count: the part's, or those of what it wraps.
template <class Part>
struct HooksOf {
  using type = Part;
};

/// True, or does not compile and says how the hook is to be called.
template <class Part, class Real, class Scorer>
consteval bool refuse_wrong_balance_hooks() {
  constexpr bool kLoss = Loss<Part, Real, Scorer>;
  static_assert(
      absent_or<Part, Hook::forward>(kLoss) && absent_or<Part, Hook::backward>(kLoss),
      "moe: a part of the Balancing has forward() or backward() and is no Loss: "
      "double forward(const BalanceInput<Real>& in, Arena& arena) const and void backward(in, double scale, "
      "const BalanceGradients<Real>& out, Arena& arena) const (moe/router/balance/concept.hpp)");
  static_assert(
      !kLoss || !kHasGradients<Part> || LearningLoss<Part, Real> || LearningScorerLoss<Part, Real, Scorer>,
      "moe: a loss has Gradients and a backward() that does not take them: its parameters would never "
      "train (moe/router/balance/concept.hpp)");
  static_assert(
      !kLoss || requires { Part::kName; }, "moe: a loss names itself: static constexpr const char* kName");
  static_assert(
      absent_or<Part, Hook::selection_bias>(requires(const Part& p) {
        { p.selection_bias() } -> std::convertible_to<const double*>;
      }),
      "moe: a part has a selection_bias() that cannot be called: const double* selection_bias() const");
  static_assert(absent_or<Part, Hook::coefficient>(!kLoss ||
                                                   requires(const Part& p) {
                                                     { p.coefficient() } -> std::convertible_to<double>;
                                                   }),
                "moe: a loss has a coefficient() that cannot be called: double coefficient() const");
  static_assert(
      absent_or<Part, Hook::measure>(requires(const Part& p, Arena& a) { p.measure(a, Index{}, Index{}); }),
      "moe: a part has a measure() that cannot be called: "
      "void measure(Arena& arena, Index tokens, Index outputs) const");
  return refuse_wrong_hooks<Part, RouterInput<Real>>();
}

}  // namespace impl

/// A pack of parts. A part is a loss, has a selection bias (`const double* selection_bias()`, [N] or null),
/// or both. It may have: kName (a loss must), `coefficient()` (0 switches the loss off), `check(outputs)`,
/// `measure(arena, tokens, outputs)`, which takes what forward or backward takes, `check_call(call)`,
/// `coupling(training)`, `on_step_end(stats)`, `visit_state(f)`, and parameters (Gradients, make_gradients,
/// visit_parameters, visit_storage).
template <class... Parts>
class Balancing {
  static_assert((
      impl::refuse_near_misses<typename impl::HooksOf<Parts>::type, impl::Hook::forward, impl::Hook::backward,
                               impl::Hook::measure, impl::Hook::coefficient, impl::Hook::selection_bias>() &&
      ...));
  static_assert((0 + ... + (impl::BiasesSelection<Parts> ? 1 : 0)) <= 1,
                "moe: two parts of this Balancing have a selection_bias(); selections take one");

 public:
  struct Gradients {
    std::tuple<impl::GradientsOf<Parts>...> part;
  };

  Balancing() = default;
  explicit Balancing(Parts... parts) requires(sizeof...(Parts) > 0) : parts_(std::move(parts)...) {}

  template <class Part>
  Part& part() noexcept {
    return std::get<Part>(parts_);
  }
  template <class Part>
  const Part& part() const noexcept {
    return std::get<Part>(parts_);
  }

  /// True, or does not compile and says which hook of which kind is wrong.
  template <class Real, class Scorer>
  static consteval bool refuse_wrong_parts() {
    return (impl::refuse_wrong_balance_hooks<typename impl::HooksOf<Parts>::type, Real, Scorer>() && ...);
  }

  /// True if any part adds a loss at all: without one the probabilities need not be formed.
  template <class Real = double, class Scorer = impl::NoScorer>
  bool has_loss() const noexcept {
    bool any = false;
    each([&](const auto& part) {
      if constexpr (Loss<std::remove_cvref_t<decltype(part)>, Real, Scorer>) any = any || impl::is_on(part);
    });
    return any;
  }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    each([&](const auto& part) { impl::visit_names_of(role, part, f); });
  }

  void check(Index outputs) const {
    each([&](const auto& part) { impl::check_outputs_of(part, outputs); });
  }
  void measure(Arena& arena, Index tokens, Index outputs) const {
    const Index mark = arena.mark();
    each([&](const auto& part) {
      if constexpr (requires { part.measure(arena, tokens, outputs); }) part.measure(arena, tokens, outputs);
      arena.rewind(mark);
    });
  }

  /// Bias added to the scores for selection only, or null. [N]
  const double* selection_bias() const noexcept {
    const double* bias = nullptr;
    each([&](const auto& part) {
      if constexpr (impl::BiasesSelection<std::remove_cvref_t<decltype(part)>>) bias = part.selection_bias();
    });
    return bias;
  }

  static constexpr Coupling coupling([[maybe_unused]] bool training) noexcept {
    Coupling all = Coupling::row_independent;
    ((all = weakest(all, impl::coupling_of<Parts>(training))), ...);
    return all;
  }
  template <class Call>
  void check_call(const Call& call) const {
    each([&](const auto& part) { impl::check_call_of(part, call); });
  }

  template <class Real, class Scorer>
  void forward(const BalanceInput<Real>& in, const Scorer& scorer, AuxiliaryLosses& losses,
               Arena& arena) const {
    const Index mark = arena.mark();
    each([&](const auto& part) {
      using Part = std::remove_cvref_t<decltype(part)>;
      if constexpr (Loss<Part, Real, Scorer>) {
        if (!impl::is_on(part)) return;
        if constexpr (impl::ScorerLoss<Part, Real, Scorer> || impl::LearningScorerLoss<Part, Real, Scorer>) {
          losses.add(Part::kName, part.forward(in, scorer, arena));
        } else {
          losses.add(Part::kName, part.forward(in, arena));
        }
        arena.rewind(mark);
      }
    });
  }

  template <class Real, class Scorer>
  void backward(const BalanceInput<Real>& in, const Scorer& scorer, double scale,
                const BalanceGradients<Real>& out, typename Scorer::Gradients* scorer_gradients,
                Gradients* gradients, Arena& arena) const {
    const Index mark = arena.mark();
    each_learning(*this, gradients, [&](const auto& part, auto* own) {
      using Part = std::remove_cvref_t<decltype(part)>;
      if constexpr (Loss<Part, Real, Scorer>) {
        if (!impl::is_on(part)) return;
        if constexpr (impl::LearningScorerLoss<Part, Real, Scorer>) {
          part.backward(in, scorer, scale, out, scorer_gradients, own, arena);
        } else if constexpr (impl::ScorerLoss<Part, Real, Scorer>) {
          part.backward(in, scorer, scale, out, scorer_gradients, arena);
        } else if constexpr (impl::LearningLoss<Part, Real>) {
          part.backward(in, scale, out, own, arena);
        } else {
          part.backward(in, scale, out, arena);
        }
        arena.rewind(mark);
      }
    });
  }

  void on_step_end(const RouteStats& stats) {
    each([&](auto& part) { impl::on_step_end_of(part, stats); });
  }
  Gradients make_gradients() const {
    return std::apply([](const auto&... part) { return Gradients{{impl::make_gradients_of(part)...}}; },
                      parts_);
  }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    each_learning(*this, gradients, [&](auto& part, auto* own) { impl::visit_parameters_of(part, own, f); });
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    each_learning(*this, gradients, [&](auto& part, auto* own) { impl::visit_storage_of(part, own, f); });
  }
  template <class Visitor>
  void visit_state(Visitor& f) {
    each([&](auto& part) { impl::visit_state_of(part, f); });
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    each([&](const auto& part) { impl::visit_state_of(part, f); });
  }

  /// f(part) for every part, in order.
  template <class F>
  void each(F&& f) const {
    std::apply([&](const auto&... part) { (f(part), ...); }, parts_);
  }
  template <class F>
  void each(F&& f) {
    std::apply([&](auto&... part) { (f(part), ...); }, parts_);
  }

 private:
  /// f(part, its gradients or null) for every part, in order; two parts may be of one type.
  template <class Self, class F>
  static void each_learning(Self& self, Gradients* all, F&& f) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (f(std::get<I>(self.parts_), all == nullptr ? nullptr : &std::get<I>(all->part)), ...);
    }
    (std::index_sequence_for<Parts...>{});
  }

  std::tuple<Parts...> parts_;
};

MOE_NAMESPACE_END
