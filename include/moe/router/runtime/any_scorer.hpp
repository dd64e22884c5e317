// A scorer chosen at run time: linear, two layers or cosine, its rows normed or not, its logits mapped or
// not.
#pragma once

#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include "moe/router/runtime/any_logit_map.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/scorer/cosine.hpp"
#include "moe/router/scorer/linear.hpp"
#include "moe/router/scorer/mapped.hpp"
#include "moe/router/scorer/normed.hpp"
#include "moe/router/scorer/two_layer.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// One of the scorers that have parameters of their own. Its tapes and gradients hold one of each kind, of
/// which one is in use.
template <class RealType>
class OneScorer {
  using Parts = std::variant<LinearScorer<RealType>, TwoLayerScorer<RealType>, CosineScorer<RealType>>;

 public:
  using Real = RealType;
  struct Tape {
    std::tuple<typename LinearScorer<Real>::Tape, typename TwoLayerScorer<Real>::Tape,
               typename CosineScorer<Real>::Tape>
        part;
  };
  struct Gradients {
    std::tuple<typename LinearScorer<Real>::Gradients, typename TwoLayerScorer<Real>::Gradients,
               typename CosineScorer<Real>::Gradients>
        part;
  };
  static constexpr bool kNoisy = false;

  template <class Part>
  requires std::is_constructible_v<Parts, Part> OneScorer(Part part)
      : part_(std::move(part)) {}  // NOLINT(google-explicit-constructor)

  Index width() const noexcept {
    return std::visit([](const auto& part) { return Index{part.width()}; }, part_);
  }
  Index outputs() const noexcept {
    return std::visit([](const auto& part) { return Index{part.outputs()}; }, part_);
  }
  void initialise(std::uint64_t seed) {
    std::visit([&](auto& part) { part.initialise(seed); }, part_);
  }
  void measure(Arena& arena, Index tokens, Index concurrency) const {
    std::visit([&](const auto& part) { part.measure(arena, tokens, concurrency); }, part_);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    std::visit([&](const auto& part) { part.measure_backward(arena, tokens, concurrency); }, part_);
  }
  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    std::visit([&](const auto& part) { part.logits(in, out, own<Tape>(part, tape), arena, executor); },
               part_);
  }
  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    std::visit(
        [&](const auto& part) {
          part.backward(in, *own<const Tape>(part, &tape), dlogits, dx, own<Gradients>(part, gradients),
                        arena, executor);
        },
        part_);
  }
  Gradients make_gradients() const {
    Gradients all;
    std::visit([&](const auto& part) { *own<Gradients>(part, &all) = part.make_gradients(); }, part_);
    return all;
  }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    std::visit([&](auto& part) { part.visit_parameters(own<Gradients>(part, gradients), f); }, part_);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    std::visit([&](auto& part) { part.visit_storage(own<Gradients>(part, gradients), f); }, part_);
  }

 private:
  /// The tape or gradients of the scorer that is in use; null of null.
  template <class All, class Part>
  static auto own(const Part&, All* all) noexcept {
    constexpr std::size_t kPart = std::is_same_v<Part, LinearScorer<Real>>     ? 0
                                  : std::is_same_v<Part, TwoLayerScorer<Real>> ? 1
                                                                               : 2;
    return all == nullptr ? nullptr : &std::get<kPart>(all->part);
  }

  Parts part_;
};

}  // namespace impl

/// Built of parts: AnyScorer<float>({LinearScorer<float>(...), InputNorm{.enabled = false}}, AnyLogitMap()).
template <class Real>
using AnyScorer = MappedScorer<NormedScorer<impl::OneScorer<Real>>, AnyLogitMap>;

MOE_NAMESPACE_END
