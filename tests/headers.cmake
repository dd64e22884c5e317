# Every public header compiles alone, with no exceptions but those of a component that is not built. A header that has a
# test file of its own name does so there (rule `mirror` of cmake/check_tree.cmake: it is the first include); each of
# the others is compiled here, included twice. (The forms of a kernel are included by its public header alone.)
file(GLOB_RECURSE headers RELATIVE "${PROJECT_SOURCE_DIR}/include" CONFIGURE_DEPENDS
  "${PROJECT_SOURCE_DIR}/include/moe/*.hpp")
list(FILTER headers EXCLUDE REGEX "^moe/kernel/(ref|simd|isa)/")
if(NOT TARGET moe::io)
  list(FILTER headers EXCLUDE REGEX "^moe/(io|models)/")
endif()
set(header_sources "")
foreach(header IN LISTS headers)
  string(REGEX REPLACE "^moe/(.*)\\.hpp$" "\\1_test.cpp" test "${header}")
  if(test IN_LIST test_sources)
    continue()
  endif()
  set(source "${CMAKE_CURRENT_BINARY_DIR}/headers/${header}.cpp")
  file(CONFIGURE OUTPUT "${source}" CONTENT "#include \"${header}\"\n#include \"${header}\"\n")
  list(APPEND header_sources "${source}")
endforeach()

add_library(moe_headers OBJECT EXCLUDE_FROM_ALL ${header_sources})
target_compile_options(moe_headers PRIVATE -O0 -g0 -Werror)
target_link_libraries(moe_headers PRIVATE moe::moe moe_developer_flags $<TARGET_NAME_IF_EXISTS:moe::io>)

# The build is the test. (The lock: two builds in one directory would disturb each other.)
set(keep_going "")
if(CMAKE_GENERATOR MATCHES "Ninja")
  set(keep_going -- -k 0)
elseif(CMAKE_GENERATOR MATCHES "Makefiles")
  set(keep_going -- -k)
endif()
cmake_host_system_information(RESULT cores QUERY NUMBER_OF_LOGICAL_CORES)
if(cores LESS 1)  # unknown
  set(cores 1)
endif()
add_test(NAME headers COMMAND ${CMAKE_COMMAND} --build "${PROJECT_BINARY_DIR}" --config $<CONFIG>
  --target moe_headers --parallel ${cores} ${keep_going})
set_tests_properties(headers PROPERTIES RESOURCE_LOCK moe_build_directory TIMEOUT 900)
