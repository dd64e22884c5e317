# router_menu: the routers of the library by name (router_menu.hpp), for the example that trains them and the benchmark
# that times them; whoever comes first adds the target.
include_guard(GLOBAL)
file(GLOB menu_sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_LIST_DIR}/menu/*.cpp")
add_library(router_menu STATIC ${menu_sources})
target_link_libraries(router_menu PUBLIC moe::moe PRIVATE moe_developer_flags moe_arch_flags)

# layer_menu: the techniques that are more than a router (layer_menu.hpp), for the example alone.
function(moe_add_layer_menu)
  file(GLOB layer_sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/layers/*.cpp")
  add_library(layer_menu STATIC ${layer_sources})
  target_link_libraries(layer_menu PUBLIC router_menu PRIVATE moe_developer_flags moe_arch_flags)
endfunction()
