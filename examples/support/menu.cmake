# router_menu: the routers of the library by name (router_menu.hpp), for the example that trains them and the benchmark
# that times them; whoever comes first adds the target.
include_guard(GLOBAL)
file(GLOB menu_sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_LIST_DIR}/menu/*.cpp")
add_library(router_menu STATIC ${menu_sources})
target_link_libraries(router_menu PUBLIC moe::moe PRIVATE moe_developer_flags moe_arch_flags)
