// The menu of layers: techniques that are more than a router, by name, for 04_train_text --router. A layer is
// one line of the table of its group, in layers/*.cpp; one that has a router's name is trained in its place.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "any_bank.hpp"
#include "any_layer.hpp"
#include "any_router.hpp"
#include "router_menu.hpp"
#include "text_layers.hpp"

namespace example {

/// What a layer is made for.
struct LayerSetting : RouterSetting {
  Index hidden = 0;        // F of an expert, of which K are run for a row
  Index length = 0;        // rows of a sequence
  std::uint64_t seed = 1;  // of what is drawn and then trained
};

struct MenuLayer {
  using Made = std::unique_ptr<TextLayers>;

  const char* name;
  const char* paper;  // arXiv id
  const char* what;
  std::function<Made(const LayerSetting&)> make;  // initialised
  MenuExtras extras;

  /// `make_layer(setting)` gives an AnyLayer, which is called for every block, or all layers at once.
  template <class F>
  MenuLayer(const char* name_, const char* paper_, const char* what_, F make_layer, MenuExtras extras_ = {})
      : name(name_), paper(paper_), what(what_), extras(extras_) {
    if constexpr (std::is_same_v<std::invoke_result_t<F, const LayerSetting&>, AnyLayer>) {
      make = [make_layer](const LayerSetting& s) { return separate(s, make_layer); };
    } else {
      make = make_layer;
    }
  }

  /// A layer for every block, none of whose parts are shared.
  static Made separate(LayerSetting s, const std::function<AnyLayer(const LayerSetting&)>& make_layer);
};

/// A technique of the library that is no layer of this model, and why.
struct NotOnTheMenu {
  const char* name;
  const char* paper;
  const char* why;
};

/// Ordered by name.
const std::vector<MenuLayer>& layer_menu();
const std::vector<NotOnTheMenu>& not_on_the_menu();

/// Null if there is none of that name.
const MenuLayer* find_layer(const std::string& name);

// What the tables make layers of: compiled once.

AnyLayer plain_layer(AnyRouter router, AnyBank experts);
AnyBank glu_bank(Index experts, Index width, Index hidden, std::uint64_t seed);
/// A router of the menu, initialised.
AnyRouter menu_router(const char* name, const LayerSetting& s);

template <class Part>
Part initialised(Part part, std::uint64_t seed) {
  part.initialise(seed);
  return part;
}

}  // namespace example
