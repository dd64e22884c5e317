// Layers of one model that refer to one router or one bank, wherever they stand in it.
#pragma once

#include <utility>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/depth/layer_group.hpp"

MOE_NAMESPACE_BEGIN

/// MoeLayers over a `R&` or `B&`, called one by one with what the model has between them. As one thing they
/// are shown, saved, zeroed and trained (TrainedLayer): the shared part once, with one object of gradients,
/// to which every layer's backward adds, in the order in which the caller calls them. Parameters "layer<i>.",
/// those of a shared part under the first of its layers.
template <class L>
class SharedParts : public LayerGroup<L> {
  using Group = LayerGroup<L>;

 public:
  using Real = typename Group::Real;

  /// Throws config_error for no layers.
  explicit SharedParts(typename Group::Layers layers) : Group("layer", std::move(layers)) {}

  /// Layer i. Throws config_error for one that is not there.
  L& operator[](Index i) {
    require_range("layer", i, 0, this->size() - 1);
    return this->layers()[static_cast<std::size_t>(i)];
  }
  const L& operator[](Index i) const {
    require_range("layer", i, 0, this->size() - 1);
    return this->layers()[static_cast<std::size_t>(i)];
  }

  /// For layer i's backward, whose gradients go to `all`, that of a shared part to the one object. Throws
  /// config_error for a layer that is not there, shape_error for gradients of another number of layers.
  typename L::LayerGradients gradients_of(Index i, const ConstMatrixView<Real>& dy,
                                          const MatrixView<Real>& dx, typename Group::Gradients& all) const {
    return this->own_gradients(i, (*this)[i], dy, dx, typename Group::LayerGradients(dy, dx, all));
  }
};

template <class L>
SharedParts(std::vector<L>) -> SharedParts<L>;

MOE_NAMESPACE_END
