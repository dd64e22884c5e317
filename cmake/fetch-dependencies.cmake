# What no package provides is downloaded at a pinned tag. Both are header-only, so their own build files (which
# would add targets, tests and install rules to ours) are not run: SOURCE_SUBDIR names a folder that is not there.
# Pinned are the versions that every CI run tests (Debian 12's packages).
include(FetchContent)

if(NOT TARGET Eigen3::Eigen)
  message(STATUS "moe: no package of Eigen >= 3.4 found, fetching 3.4.0")
  FetchContent_Declare(eigen3 GIT_REPOSITORY https://gitlab.com/libeigen/eigen.git GIT_TAG 3.4.0
    GIT_SHALLOW ON SOURCE_SUBDIR no-build-files)
  FetchContent_MakeAvailable(eigen3)
  add_library(Eigen3::Eigen INTERFACE IMPORTED)
  target_include_directories(Eigen3::Eigen INTERFACE "${eigen3_SOURCE_DIR}")
endif()

if(NOT TARGET moe::xsimd)
  message(STATUS "moe: no package of xsimd >= 8.1 found, fetching 8.1.0")
  FetchContent_Declare(xsimd GIT_REPOSITORY https://github.com/xtensor-stack/xsimd.git GIT_TAG 8.1.0
    GIT_SHALLOW ON SOURCE_SUBDIR no-build-files)
  FetchContent_MakeAvailable(xsimd)
  add_library(moe::xsimd INTERFACE IMPORTED)
  target_include_directories(moe::xsimd INTERFACE "${xsimd_SOURCE_DIR}/include")
endif()
