// The groups of the menu of layers, a source file each, so that they compile beside each other.
#pragma once

#include <vector>

#include "../layer_menu.hpp"

namespace example {

std::vector<MenuLayer> top_k_layers();
std::vector<MenuLayer> expert_layers();
std::vector<MenuLayer> probing_layers();
std::vector<MenuLayer> soft_layers();
std::vector<MenuLayer> merging_layers();
std::vector<MenuLayer> depth_layers();
std::vector<MenuLayer> shared_layers();

}  // namespace example
