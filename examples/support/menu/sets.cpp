// Rows are chosen for together.
#include <vector>

#include "groups.hpp"
#include "moe/router/named/expert_choice.hpp"
#include "moe/router/named/rectified.hpp"

namespace example {
namespace {
using S = const RouterSetting&;
}

std::vector<MenuRouter> set_routers() {
  return {
      {"expert_choice", "2202.09368", "experts choose rows of a sequence: K for a row on average",
       [](S s) {
         return moe::expert_choice<float>(
             {.width = s.width, .experts = s.experts, .capacity_factor = static_cast<double>(s.k)});
       }},
      {"rectified", "2402.12399", "top-k under a capacity; what is lost goes to free places",
       [](S s) { return moe::rectified_router<float>({.width = s.width, .experts = s.experts, .k = s.k}); }},
  };
}

}  // namespace example
