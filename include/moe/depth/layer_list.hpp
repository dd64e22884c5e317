// Layers that a layer is made of: a vector of one type, or a tuple of several, walked by one loop.
#pragma once

#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

template <class... Ls>
struct LayerList {
  using type = std::tuple<Ls...>;
};
template <class L>
struct LayerList<L> {
  using type = std::vector<L>;
};
/// A vector where there is one type, else a tuple.
template <class... Ls>
using LayersOf = typename LayerList<Ls...>::type;

template <class List>
constexpr Index list_size(const List& list) noexcept {
  if constexpr (requires { list.size(); }) {
    return static_cast<Index>(list.size());
  } else {
    return static_cast<Index>(std::tuple_size_v<List>);
  }
}

template <std::size_t kI, class F, class... Lists>
void at_layer(F& f, Lists&... lists) {
  f(static_cast<Index>(kI), std::get<kI>(lists)...);
}

/// f(i, element i of each list) for lists of one length, ascending.
template <class F, class First, class... More>
void each_layer(F&& f, First& first, More&... more) {
  if constexpr (requires { first.size(); }) {
    for (std::size_t i = 0; i < first.size(); ++i) f(static_cast<Index>(i), first[i], more[i]...);
  } else {
    [&]<std::size_t... kI>(std::index_sequence<kI...>) {
      (at_layer<kI>(f, first, more...), ...);
    }
    (std::make_index_sequence<std::tuple_size_v<std::remove_const_t<First>>>{});
  }
}

/// The same, descending.
template <class F, class First, class... More>
void each_layer_back(F&& f, First& first, More&... more) {
  if constexpr (requires { first.size(); }) {
    for (std::size_t i = first.size(); i-- > 0;) f(static_cast<Index>(i), first[i], more[i]...);
  } else {
    constexpr std::size_t kLast = std::tuple_size_v<std::remove_const_t<First>> - 1;
    [&]<std::size_t... kI>(std::index_sequence<kI...>) {
      (at_layer<kLast - kI>(f, first, more...), ...);
    }
    (std::make_index_sequence<kLast + 1>{});
  }
}

/// quantise<To>() of every layer. A part that several refer to becomes one of each.
template <class To, class L>
auto quantised_layers(const std::vector<L>& layers) {
  std::vector<decltype(quantise<To>(std::declval<const L&>()))> made;
  made.reserve(layers.size());
  for (const L& layer : layers) made.push_back(quantise<To>(layer));
  return made;
}
template <class To, class... Ls>
auto quantised_layers(const std::tuple<Ls...>& layers) {
  return std::apply([](const auto&... layer) { return std::make_tuple(quantise<To>(layer)...); }, layers);
}

}  // namespace impl

MOE_NAMESPACE_END
