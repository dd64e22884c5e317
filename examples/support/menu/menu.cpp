// The menu of all groups, and its search by name.
#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "groups.hpp"

namespace example {
namespace {

/// Letters to insert, delete or replace between the two (Levenshtein).
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t before = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t same = before + (a[i] == b[j] ? 0 : 1);
      before = row[j + 1];
      row[j + 1] = std::min({same, before + 1, row[j] + 1});
    }
  }
  return row[b.size()];
}

bool near(std::string_view asked, std::string_view name) {
  return name.find(asked) != name.npos || asked.find(name) != asked.npos ||
         std::min(distance(asked, name), distance(asked, name.substr(0, asked.size()))) <=
             std::max<std::size_t>(1, asked.size() / 4);
}

std::vector<MenuRouter> all_routers() {
  std::vector<MenuRouter> all;
  for (const auto group :
       {top_k_routers, variable_k_routers, grouped_routers, scorer_routers, told_routers, set_routers}) {
    for (MenuRouter& router : group()) all.push_back(std::move(router));
  }
  std::sort(all.begin(), all.end(),
            [](const MenuRouter& a, const MenuRouter& b) { return std::string_view(a.name) < b.name; });
  return all;
}

}  // namespace

const std::vector<MenuRouter>& router_menu() {
  static const std::vector<MenuRouter> menu = all_routers();
  return menu;
}

const MenuRouter* find_router(const std::string& name) {
  for (const MenuRouter& router : router_menu()) {
    if (router.name == name) return &router;
  }
  return nullptr;
}

const MenuRouter& router_named(const std::string& name) {
  if (const MenuRouter* const router = find_router(name)) return *router;
  std::vector<std::string> names;
  for (const MenuRouter& router : router_menu()) names.emplace_back(router.name);
  throw std::runtime_error(nothing_called(name, names));
}

std::string nothing_called(const std::string& name, const std::vector<std::string>& names) {
  std::vector<std::string> close;
  for (const std::string& other : names) {
    if (!name.empty() && near(name, other)) close.push_back(other);
  }
  std::stable_sort(close.begin(), close.end(), [&](const std::string& a, const std::string& b) {
    return distance(name, a) < distance(name, b);
  });
  std::string text = "no router is called " + (name.empty() ? "\"\"" : name);
  for (std::size_t i = 0; i < std::min<std::size_t>(close.size(), 5); ++i) {
    text += (i == 0 ? "; near it: " : ", ") + close[i];
  }
  return text + "; --list shows all";
}

}  // namespace example
