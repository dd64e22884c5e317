# Rules of the source tree: stage headers, order of the rooms, no machine's own paths, one test file per header, code in docs,
# the catalogue of techniques, the menu of routers.
foreach(rule IN ITEMS stages rooms paths mirror snippets catalogue menu)
  add_test(NAME ${rule} COMMAND ${CMAKE_COMMAND} -DRULE=${rule} "-DROOT=${PROJECT_SOURCE_DIR}"
    -P "${PROJECT_SOURCE_DIR}/cmake/check_tree.cmake")
endforeach()

# 64-bit Arm: a few kernels (tag arm), cross-compiled and run under qemu; skipped where either is not installed
# (Debian, Ubuntu: packages g++-aarch64-linux-gnu, qemu-user). Every test: cmake --preset aarch64.
find_program(MOE_AARCH64_COMPILER aarch64-linux-gnu-g++)
find_program(MOE_QEMU_AARCH64 qemu-aarch64)
mark_as_advanced(MOE_AARCH64_COMPILER MOE_QEMU_AARCH64)
if(MOE_AARCH64_COMPILER AND MOE_QEMU_AARCH64 AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  add_test(NAME aarch64 COMMAND ${CMAKE_CTEST_COMMAND}
    --build-and-test "${PROJECT_SOURCE_DIR}" "${CMAKE_CURRENT_BINARY_DIR}/aarch64" --build-generator "${CMAKE_GENERATOR}"
    --build-target test_kernel_native --build-options
      "-DCMAKE_TOOLCHAIN_FILE=${PROJECT_SOURCE_DIR}/cmake/aarch64-toolchain.cmake" -DCMAKE_BUILD_TYPE=Debug
      -DCMAKE_CXX_FLAGS_DEBUG= -DMOE_TEST_TAG=arm -DMOE_TEST_REPOSITORY=OFF -DMOE_WITH_OPENMP=OFF
      -DMOE_BUILD_BENCH=OFF -DMOE_BUILD_EXAMPLES=OFF
    --test-command "${MOE_QEMU_AARCH64}" -L /usr/aarch64-linux-gnu tests/test_kernel_native "[arm]")
  set_tests_properties(aarch64 PROPERTIES TIMEOUT 1500)
else()
  add_test(NAME aarch64 COMMAND ${CMAKE_COMMAND} -E echo "no cross compiler for 64-bit Arm or no qemu-user: skipped")
  set_tests_properties(aarch64 PROPERTIES SKIP_REGULAR_EXPRESSION "skipped")
endif()
