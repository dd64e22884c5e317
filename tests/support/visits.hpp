// What parts and layers are shown to, of one type for each kind of number: who shows then compiles its visits
// once.
#pragma once

#include <functional>
#include <type_traits>

#include "moe/core/types.hpp"
#include "moe/storage/parameter.hpp"

namespace test {

template <class Real>
using ParameterVisit = std::function<void(const moe::Parameter<Real>&)>;
template <class Real>
using StorageVisit = std::function<void(const char*, Real*, Real*, moe::Index)>;

/// The parameters of a layer, as such.
template <class L>
requires(!std::is_const_v<L>) void visit_layer(L& layer, const ParameterVisit<typename L::Real>& f) {
  layer.visit_parameters(f);
}
template <class L>
void visit_layer(const L& layer, const ParameterVisit<const typename L::Real>& f) {
  layer.visit_parameters(f);
}

}  // namespace test
