// One part of a family, chosen at run time: it holds one of the static parts and runs its code, so the
// templated and the run-time forms cannot differ. Families add what their concept asks for (router/runtime,
// any.hpp in the rooms of the others).
#pragma once

#include <cstddef>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include "moe/core/check.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/type_list.hpp"

MOE_NAMESPACE_BEGIN

/// Tapes and gradients hold one of each kind, of which one is in use.
template <class... Parts>
class OneOf {
 public:
  using List = TypeList<Parts...>;
  struct Tape {
    std::tuple<impl::TapeOf<Parts>...> part;
  };
  struct Gradients {
    std::tuple<std::optional<impl::GradientsOf<Parts>>...> part;
  };

  template <ListedIn<List> Part>
  OneOf(Part part) : part_(std::move(part)) {}  // NOLINT(google-explicit-constructor)

  /// f(the part).
  template <class F>
  decltype(auto) visit(F&& f) const {
    return std::visit(std::forward<F>(f), part_);
  }
  template <class F>
  decltype(auto) visit(F&& f) {
    return std::visit(std::forward<F>(f), part_);
  }
  /// The part if it is of that type, else null.
  template <ListedIn<List> Part>
  Part* get_if() noexcept {
    return std::get_if<Part>(&part_);
  }
  template <ListedIn<List> Part>
  const Part* get_if() const noexcept {
    return std::get_if<Part>(&part_);
  }
  template <ListedIn<List> Part>
  bool holds() const noexcept {
    return std::holds_alternative<Part>(part_);
  }
  /// The part's kName.
  const char* name() const noexcept {
    return visit([](const auto& part) { return std::decay_t<decltype(part)>::kName; });
  }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    visit([&](const auto& part) { impl::visit_names_of(role, part, f); });
  }

  Gradients make_gradients() const {
    Gradients all;
    visit([&](const auto& part) {
      std::get<kIndex<decltype(part)>>(all.part).emplace(impl::make_gradients_of(part));
    });
    return all;
  }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    visit([&](auto& part) { impl::visit_parameters_of(part, own(part, gradients), f); });
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    visit([&](auto& part) { impl::visit_storage_of(part, own(part, gradients), f); });
  }
  template <class Visitor>
  void visit_packed(Visitor&& f) {
    visit([&](auto& part) { impl::visit_packed_of(part, f); });
  }
  template <class Visitor>
  void visit_state(Visitor& f) {
    visit([&](auto& part) { impl::visit_state_of(part, f); });
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    visit([&](const auto& part) { impl::visit_state_of(part, f); });
  }
  void on_step_end(const RouteStats& stats) {
    visit([&](auto& part) { impl::on_step_end_of(part, stats); });
  }
  void check(Index outputs) const {
    visit([&](const auto& part) { impl::check_outputs_of(part, outputs); });
  }
  template <class Call>
  void check_call(const Call& call) const {
    visit([&](const auto& part) { impl::check_call_of(part, call); });
  }
  static constexpr Coupling coupling(bool training) noexcept {
    Coupling all = Coupling::row_independent;
    ((all = weakest(all, impl::coupling_of<Parts>(training))), ...);
    return all;
  }

  /// What belongs to `part`, which is the one held, of a tape or of gradients; null of null. Throws
  /// shape_error for gradients of another kind of part.
  template <class Part>
  static auto& tape_of(const Part&, Tape& all) noexcept {
    return std::get<kIndex<Part>>(all.part);
  }
  template <class Part>
  static const auto& tape_of(const Part&, const Tape& all) noexcept {
    return std::get<kIndex<Part>>(all.part);
  }
  template <class Part>
  static auto* tape_of(const Part& part, Tape* all) noexcept {
    return all == nullptr ? nullptr : &tape_of(part, *all);
  }
  template <class Part>
  static impl::GradientsOf<Part>* own(const Part&, Gradients* all) {
    if (all == nullptr) return nullptr;
    auto& own = std::get<kIndex<Part>>(all->part);
    if (!own) {
      if constexpr (requires { Part::kName; }) {
        fail<shape_error>("gradients: expected those of a part ", Part::kName,
                          " (ask make_gradients()), got those of another kind of part");
      }
      fail<shape_error>(
          "gradients: expected those of this kind of part (ask make_gradients()), got another's");
    }
    return &*own;
  }

 private:
  template <class Part>
  static constexpr std::size_t index_of() {
    std::size_t i = 0, found = 0;
    ((std::is_same_v<Part, Parts> ? found = i++ : i++), ...);
    return found;
  }
  template <class Part>
  static constexpr std::size_t kIndex = index_of<std::remove_cvref_t<Part>>();

  std::variant<Parts...> part_;
};

namespace impl {
/// Default options say all that it needs.
template <class Part>
inline constexpr bool kHasDefault = std::is_default_constructible_v<Part> ||
                                    (!std::is_same_v<OptionsOf<Part>, Nothing> &&
                                     std::is_constructible_v<Part, OptionsOf<Part>>);
}  // namespace impl

/// The part of a list that is called so, with its default options. Throws config_error that names all those
/// that have some.
template <class Any, class... Parts>
Any part_named(TypeList<Parts...>, const char* family, const char* name) {
  const auto same = [name](const char* other) {
    const char* a = name;
    while (*a != '\0' && *a == *other) ++a, ++other;
    return *a == *other;
  };
  std::optional<Any> found;
  const auto look = [&]<class Part>(std::type_identity<Part>) {
    if (found || !same(Part::kName)) return;
    if constexpr (std::is_default_constructible_v<Part>) {
      found.emplace(Part());
    } else if constexpr (impl::kHasDefault<Part>) {
      found.emplace(Part(typename Part::Options()));
    }
  };
  (look(std::type_identity<Parts>{}), ...);
  if (found) return *std::move(found);
  impl::Text known;
  const auto list = [&](const char* other) {
    if (known.c_str()[0] != '\0') known.append(", ");
    known.append(other);
  };
  ((impl::kHasDefault<Parts> ? list(Parts::kName) : void()), ...);
  fail<config_error>(family, ": expected one of ", known.c_str(), ", got ", name);
}

MOE_NAMESPACE_END
