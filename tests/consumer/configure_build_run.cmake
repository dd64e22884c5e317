# Configures SOURCE into an empty BINARY with ARGUMENTS (separated by |), builds it and runs its program. Without
# optimisation, which would take most of the time and prove nothing here.
string(REPLACE "|" ";" arguments "${ARGUMENTS}")
file(REMOVE_RECURSE "${BINARY}")
execute_process(COMMAND "${CMAKE_COMMAND}" -S "${SOURCE}" -B "${BINARY}" -G "${GENERATOR}"
  -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE=-DNDEBUG ${arguments} COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${CMAKE_COMMAND}" --build "${BINARY}" --config Release COMMAND_ERROR_IS_FATAL ANY)
find_program(consumer NAMES consumer PATHS "${BINARY}" "${BINARY}/Release" NO_DEFAULT_PATH REQUIRED)
execute_process(COMMAND "${consumer}" COMMAND_ERROR_IS_FATAL ANY)
