# Configures SOURCE into an empty BINARY with ARGUMENTS (separated by |), builds it and runs its program.
string(REPLACE "|" ";" arguments "${ARGUMENTS}")
file(REMOVE_RECURSE "${BINARY}")
execute_process(COMMAND "${CMAKE_COMMAND}" -S "${SOURCE}" -B "${BINARY}" -G "${GENERATOR}"
  -DCMAKE_BUILD_TYPE=Release ${arguments} COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${CMAKE_COMMAND}" --build "${BINARY}" --config Release COMMAND_ERROR_IS_FATAL ANY)
find_program(consumer NAMES consumer PATHS "${BINARY}" "${BINARY}/Release" NO_DEFAULT_PATH REQUIRED)
execute_process(COMMAND "${consumer}" COMMAND_ERROR_IS_FATAL ANY)
