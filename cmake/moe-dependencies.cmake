# Finds Eigen and xsimd as installed packages; used by our own build and by the installed package alike.
# Afterwards Eigen3::Eigen and moe::xsimd exist, or their names are in moe_missing_dependencies.
macro(moe_find_dependencies)
  set(moe_missing_dependencies "")

  # Eigen's package refuses a request for another major version than its own: ask for each that we know.
  foreach(moe_eigen_version IN ITEMS 3.4 5)
    if(NOT TARGET Eigen3::Eigen)
      find_package(Eigen3 ${moe_eigen_version} QUIET CONFIG)
    endif()
  endforeach()
  if(NOT TARGET Eigen3::Eigen)
    list(APPEND moe_missing_dependencies "Eigen >= 3.4")
  endif()

  # xsimd's major versions come often, so the version is compared here. Its target is `xsimd` in some versions,
  # `xsimd::xsimd` in others. moe::xsimd takes the include path of either and nothing else: Debian's target also
  # asks for xtl, which its package does not bring.
  if(NOT TARGET moe::xsimd)
    if(NOT TARGET xsimd::xsimd AND NOT TARGET xsimd)
      find_package(xsimd QUIET CONFIG)
    endif()
    set(moe_xsimd_target "")
    if(NOT xsimd_FOUND OR NOT xsimd_VERSION VERSION_LESS 8.1)  # not found, yet a target: of the project around us
      foreach(moe_candidate IN ITEMS xsimd xsimd::xsimd)
        if(TARGET ${moe_candidate})
          set(moe_xsimd_target ${moe_candidate})
        endif()
      endforeach()
    endif()
    if(moe_xsimd_target)
      add_library(moe::xsimd INTERFACE IMPORTED)
      get_target_property(moe_xsimd_includes ${moe_xsimd_target} INTERFACE_INCLUDE_DIRECTORIES)
      target_include_directories(moe::xsimd INTERFACE "${moe_xsimd_includes}")
    else()
      list(APPEND moe_missing_dependencies "xsimd >= 8.1")
    endif()
  endif()
endmacro()

# What the component io needs besides. Afterwards nlohmann_json::nlohmann_json exists where it is installed.
macro(moe_find_io_dependencies)
  if(NOT TARGET nlohmann_json::nlohmann_json)
    find_package(nlohmann_json 3.9 QUIET CONFIG)
  endif()
endmacro()
