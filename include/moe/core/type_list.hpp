// Lists of types: one per family of parts (router/score/list.hpp and its like). What is made for every part
// of a family - run-time forms, loading by type, sweeps of tests - is made from its list.
#pragma once

#include <cstddef>
#include <type_traits>

#include "moe/config.hpp"

MOE_NAMESPACE_BEGIN

template <class... Types>
struct TypeList {
  static constexpr std::size_t kSize = sizeof...(Types);
};

namespace impl {

template <template <class...> class To, class List>
struct FilledWith;
template <template <class...> class To, class... Types>
struct FilledWith<To, TypeList<Types...>> {
  using type = To<Types...>;
};

template <class Type, class List>
inline constexpr bool kListed = false;
template <class Type, class... Types>
inline constexpr bool kListed<Type, TypeList<Types...>> = (std::is_same_v<Type, Types> || ...);

}  // namespace impl

/// To<types of the list>.
template <template <class...> class To, class List>
using FromList = typename impl::FilledWith<To, List>::type;

template <class Type, class List>
concept ListedIn = impl::kListed<Type, List>;

/// f(std::type_identity<T>()) for every type of the list, in order.
template <class... Types, class F>
constexpr void for_each_type(TypeList<Types...>, F&& f) {
  (f(std::type_identity<Types>{}), ...);
}

MOE_NAMESPACE_END
