// From one storage of an erased layer's experts to another.
#pragma once

#include <optional>
#include <type_traits>

#include "moe/core/check.hpp"
#include "moe/core/type_list.hpp"
#include "moe/layer/quantise.hpp"
#include "moe/models/any/any_layer.hpp"
#include "moe/models/any/any_parts.hpp"
#include "moe/plan/capacity/any.hpp"
#include "moe/plan/capacity/dropless.hpp"
#include "moe/storage/list.hpp"

MOE_NAMESPACE_BEGIN
namespace models {

/// As quantise<To>() of a layer. Throws config_error for a layer that load_layer() could not have made.
inline AnyLayer quantise(const AnyLayer& layer, StorageKind to) {
  std::optional<AnyLayer> result;
  impl::with_storage(to, [&]<class To>(std::type_identity<To>) {
    for_each_type(Storages{}, [&]<class From>(std::type_identity<From>) {
      for_each_type(TypeList<Dropless, AnyCapacity>{}, [&]<class Capacity>(std::type_identity<Capacity>) {
        if (const auto* const own = layer.get_if<ModelLayer<From, Capacity>>()) {
          result.emplace(layer.spec(), moe::quantise<To>(*own));
        }
      });
    });
  });
  if (!result) fail<config_error>("quantise: expected a ModelLayer in the AnyLayer, got another type");
  return *std::move(result);
}

}  // namespace models
MOE_NAMESPACE_END
