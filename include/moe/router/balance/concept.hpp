// Balancing of token-choice routers: auxiliary losses with their gradients, and state that is updated between
// steps. A router has a pack of parts; each is one file (load_balance.hpp, z_loss.hpp, selection_bias.hpp,
// ...).
#pragma once

#include <tuple>
#include <utility>

#include "moe/core/input.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/plan/route_table.hpp"
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

/// Default members of a part: a part hides what it has. `forward` returns the loss, coefficient applied,
/// summed in double over tokens in ascending order; `backward` adds its gradient times `scale`. `measure`
/// takes from the arena what either takes.
struct BalancePart {
  static constexpr const char* kName = "";
  static constexpr bool kIsLoss = false;
  void check(Index) const noexcept {}  // outputs; throws config_error when the part does not fit
  void measure(Arena&, Index, Index) const noexcept {}  // tokens, outputs
  const double* selection_bias() const noexcept { return nullptr; }
  void on_step_end(const RouteStats&) noexcept {}
  template <class Visitor>
  void visit_state(Visitor&) noexcept {}
};

/// A pack of parts.
template <class... Parts>
class Balancing {
 public:
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

  /// True if any part adds a loss at all: without one the probabilities need not be formed.
  bool has_loss() const noexcept {
    bool any = false;
    each([&](const auto& part) {
      if constexpr (std::remove_cvref_t<decltype(part)>::kIsLoss) any = any || part.coefficient() != 0;
    });
    return any;
  }

  void check(Index outputs) const {
    each([&](const auto& part) { part.check(outputs); });
  }
  void measure(Arena& arena, Index tokens, Index outputs) const {
    const Index mark = arena.mark();
    each([&](const auto& part) {
      part.measure(arena, tokens, outputs);
      arena.rewind(mark);
    });
  }

  /// Bias added to the scores for selection only, or null. [N]
  const double* selection_bias() const noexcept {
    const double* bias = nullptr;
    each([&](const auto& part) {
      if (const double* own = part.selection_bias(); own != nullptr) bias = own;
    });
    return bias;
  }

  template <class Real>
  void forward(const BalanceInput<Real>& in, AuxiliaryLosses& losses, Arena& arena) const {
    const Index mark = arena.mark();
    each([&](const auto& part) {
      using Part = std::remove_cvref_t<decltype(part)>;
      if constexpr (Part::kIsLoss) {
        if (part.coefficient() == 0) return;
        losses.add(Part::kName, part.forward(in, arena));
        arena.rewind(mark);
      }
    });
  }

  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out,
                Arena& arena) const {
    const Index mark = arena.mark();
    each([&](const auto& part) {
      using Part = std::remove_cvref_t<decltype(part)>;
      if constexpr (Part::kIsLoss) {
        if (part.coefficient() == 0) return;
        part.backward(in, scale, out, arena);
        arena.rewind(mark);
      }
    });
  }

  void on_step_end(const RouteStats& stats) {
    each([&](auto& part) { part.on_step_end(stats); });
  }
  template <class Visitor>
  void visit_state(Visitor& f) {
    each([&](auto& part) { part.visit_state(f); });
  }

 private:
  template <class F>
  void each(F&& f) const {
    std::apply([&](const auto&... part) { (f(part), ...); }, parts_);
  }
  template <class F>
  void each(F&& f) {
    std::apply([&](auto&... part) { (f(part), ...); }, parts_);
  }

  std::tuple<Parts...> parts_;
};

MOE_NAMESPACE_END
