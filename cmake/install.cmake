# Headers, sources of moe::kernels, CMake package and pkg-config file. Nothing here depends on the machine, so all of it goes to share/.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_DATADIR}/cmake/moe")
set(pkgconfig_dir "${CMAKE_INSTALL_DATADIR}/pkgconfig")

install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/moe" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILES_MATCHING PATTERN "*.hpp")
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DATADIR}/licenses/moe")

install(TARGETS moe EXPORT moe-targets INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(EXPORT moe-targets NAMESPACE moe:: DESTINATION "${package_dir}")

write_basic_package_version_file("${PROJECT_BINARY_DIR}/moe-config-version.cmake"
  COMPATIBILITY SameMajorVersion ARCH_INDEPENDENT)
configure_file("${PROJECT_SOURCE_DIR}/cmake/moe-config.cmake" "${PROJECT_BINARY_DIR}/moe-config.cmake" COPYONLY)
install(FILES "${PROJECT_BINARY_DIR}/moe-config.cmake" "${PROJECT_BINARY_DIR}/moe-config-version.cmake"
  "${PROJECT_SOURCE_DIR}/cmake/moe-dependencies.cmake" "${PROJECT_SOURCE_DIR}/cmake/moe-kernels.cmake"
  DESTINATION "${package_dir}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/cmake/kernels" DESTINATION "${package_dir}")

# The pkg-config file finds the headers from its own place, so that the prefix can be moved.
file(RELATIVE_PATH moe_prefix_from_pc "/prefix/${pkgconfig_dir}" "/prefix")
configure_file("${PROJECT_SOURCE_DIR}/cmake/moe.pc.in" "${PROJECT_BINARY_DIR}/moe.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/moe.pc" DESTINATION "${pkgconfig_dir}")
