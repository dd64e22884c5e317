// A pack of balancing parts put together at run time: any of those of router/balance/list.hpp, each at most
// once.
#pragma once

#include <optional>
#include <utility>

#include "moe/core/type_list.hpp"
#include "moe/plan/statistics.hpp"
#include "moe/router/balance/concept.hpp"
#include "moe/router/balance/list.hpp"

MOE_NAMESPACE_BEGIN

/// A part that may be missing.
template <class Part>
class MaybePart {
 public:
  static constexpr const char* kName = Part::kName;
  using Gradients = impl::GradientsOf<Part>;

  MaybePart() = default;
  MaybePart(Part part) : part_(std::move(part)) {}  // NOLINT(google-explicit-constructor)

  explicit operator bool() const noexcept { return part_.has_value(); }
  Part& operator*() noexcept { return *part_; }
  const Part& operator*() const noexcept { return *part_; }

  /// 0 if there is no part or its loss is off.
  double coefficient() const noexcept { return part_ && impl::is_on(*part_) ? 1 : 0; }
  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    if (part_) impl::visit_names_of(role, *part_, f);
  }
  void check(Index outputs) const {
    if (part_) impl::check_outputs_of(*part_, outputs);
  }
  static constexpr Coupling coupling(bool training) noexcept { return impl::coupling_of<Part>(training); }
  template <class Call>
  void check_call(const Call& call) const {
    if (part_) impl::check_call_of(*part_, call);
  }
  void measure(Arena& arena, Index tokens, Index outputs) const {
    if constexpr (requires { part_->measure(arena, tokens, outputs); }) {
      if (part_) part_->measure(arena, tokens, outputs);
    }
  }
  const double* selection_bias() const noexcept requires impl::BiasesSelection<Part> {
    return part_ ? part_->selection_bias() : nullptr;
  }
  /// The part's own, whichever kind of loss it is; asked for only if the coefficient is not 0.
  template <class... Args>
  double forward(Args&&... args) const requires requires(const Part& p) {
    p.forward(args...);
  }
  { return part_->forward(args...); }
  template <class... Args>
  void backward(Args&&... args) const requires requires(const Part& p) {
    p.backward(args...);
  }
  { part_->backward(args...); }
  Gradients make_gradients() const { return part_ ? impl::make_gradients_of(*part_) : Gradients{}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    if (part_) impl::visit_parameters_of(*part_, gradients, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    if (part_) impl::visit_storage_of(*part_, gradients, f);
  }
  void on_step_end(const RouteStats& stats) {
    if (part_) impl::on_step_end_of(*part_, stats);
  }
  template <class Visitor>
  void visit_state(Visitor& f) {
    if (part_) impl::visit_state_of(*part_, f);
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    if (part_) impl::visit_state_of(*part_, f);
  }

 private:
  std::optional<Part> part_;
};

namespace impl {
template <class Part>
struct HooksOf<MaybePart<Part>> {
  using type = Part;
};

template <class... Parts>
using BalancingOfMaybes = Balancing<MaybePart<Parts>...>;
}  // namespace impl

/// Empty at first; `set(LoadBalance({...}))` puts a part in or replaces it.
class AnyBalancing : public FromList<impl::BalancingOfMaybes, BalanceParts> {
 public:
  template <ListedIn<BalanceParts> Part>
  void set(Part part) {
    this->part<MaybePart<Part>>() = std::move(part);
  }
  /// The part, or null.
  template <ListedIn<BalanceParts> Part>
  Part* get_if() noexcept {
    MaybePart<Part>& maybe = this->part<MaybePart<Part>>();
    return maybe ? &*maybe : nullptr;
  }
  template <ListedIn<BalanceParts> Part>
  const Part* get_if() const noexcept {
    const MaybePart<Part>& maybe = this->part<MaybePart<Part>>();
    return maybe ? &*maybe : nullptr;
  }
};

MOE_NAMESPACE_END
