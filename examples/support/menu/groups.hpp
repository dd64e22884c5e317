// The groups of the menu, a source file each, so that they compile beside each other.
#pragma once

#include <vector>

#include "../router_menu.hpp"

namespace example {

std::vector<MenuRouter> top_k_routers();
std::vector<MenuRouter> variable_k_routers();
std::vector<MenuRouter> grouped_routers();
std::vector<MenuRouter> scorer_routers();
std::vector<MenuRouter> told_routers();
std::vector<MenuRouter> set_routers();

}  // namespace example
