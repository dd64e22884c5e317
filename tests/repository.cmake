# Rules of the source tree: stage headers, no machine's own paths, one test file per header, code in docs.
foreach(rule IN ITEMS stages paths mirror snippets)
  add_test(NAME ${rule} COMMAND ${CMAKE_COMMAND} -DRULE=${rule} "-DROOT=${PROJECT_SOURCE_DIR}"
    -P "${PROJECT_SOURCE_DIR}/cmake/check_tree.cmake")
endforeach()
