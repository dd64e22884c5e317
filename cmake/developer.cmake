# What our own tests, benchmarks and examples are compiled with. None of it reaches a user of moe::moe.
include(CheckCXXCompilerFlag)

set(MOE_ARCH_FLAGS "" CACHE STRING
  "Instruction-set flags of tests, benchmarks and examples, for example -march=native; empty: the compiler's default")

add_library(moe_developer_flags INTERFACE)
# For C++, clang's -Wconversion takes in -Wsign-conversion and g++'s does not.
target_compile_options(moe_developer_flags INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wno-sign-conversion -Wshadow)
check_cxx_compiler_flag(-Wc2y-extensions moe_has_c2y_warning)  # part of clang 22's -Wpedantic, against Catch2's macros
if(moe_has_c2y_warning)
  target_compile_options(moe_developer_flags INTERFACE -Wno-c2y-extensions)
endif()
# GCC's own AVX-512 intrinsics read an undefined vector by design, which its warning mistakes for ours (GCC bug 105593).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 14)
  target_compile_options(moe_developer_flags INTERFACE -Wno-maybe-uninitialized -Wno-uninitialized)
endif()
if(MOE_WERROR)
  target_compile_options(moe_developer_flags INTERFACE -Werror)
endif()

# Separate, because a test that is compiled for one certain instruction set must not get it.
add_library(moe_arch_flags INTERFACE)
if(MOE_ARCH_FLAGS)
  string(MAKE_C_IDENTIFIER "moe_has${MOE_ARCH_FLAGS}" has_arch_flags)
  check_cxx_compiler_flag("${MOE_ARCH_FLAGS}" ${has_arch_flags})
  if(${has_arch_flags})
    separate_arguments(arch_flags UNIX_COMMAND "${MOE_ARCH_FLAGS}")
    target_compile_options(moe_arch_flags INTERFACE ${arch_flags})
  else()
    message(WARNING "The compiler does not know MOE_ARCH_FLAGS='${MOE_ARCH_FLAGS}'; they are left out.")
  endif()
endif()

# Optional: the executor adapter over OpenMP. (The sanitizer presets turn it off.)
option(MOE_WITH_OPENMP "Compile tests, benchmarks and examples with OpenMP where the compiler has it" ON)
set(moe_openmp_target "")
if(MOE_WITH_OPENMP)
  find_package(OpenMP QUIET COMPONENTS CXX)
  if(OpenMP_CXX_FOUND)
    set(moe_openmp_target OpenMP::OpenMP_CXX)
  endif()
endif()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

find_program(MOE_CCACHE ccache)
if(PROJECT_IS_TOP_LEVEL AND MOE_CCACHE AND NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${MOE_CCACHE}")
endif()
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CXX_SCAN_FOR_MODULES OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
