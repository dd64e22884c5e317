# Installs to one place and moves the result to PREFIX, so that a path baked in would not be found.
file(REMOVE_RECURSE "${PREFIX}" "${PREFIX}-before-the-move")
set(config "")
if(CONFIG)
  set(config --config "${CONFIG}")
endif()
execute_process(COMMAND "${CMAKE_COMMAND}" --install "${BUILD_DIR}" ${config} --prefix "${PREFIX}-before-the-move"
  COMMAND_ERROR_IS_FATAL ANY)
file(RENAME "${PREFIX}-before-the-move" "${PREFIX}")
