# Compiles SOURCE with FLAGS: see CMakeLists.txt.
string(REPLACE "|" ";" include_dirs "${INCLUDE_DIRS}")
list(FILTER include_dirs EXCLUDE REGEX "^$|^/usr/include$")
list(TRANSFORM include_dirs PREPEND "-I")
execute_process(COMMAND "${CMAKE_COMMAND}" -E env LC_ALL=C "${COMPILER}" -std=c++20 ${include_dirs} ${FLAGS}
  -S -o - "${SOURCE}" OUTPUT_QUIET RESULT_VARIABLE result ERROR_VARIABLE output)
if(NOT EXPECTED)
  if(NOT result EQUAL 0 OR output)
    message(FATAL_ERROR "does not compile in silence:\n${output}")
  endif()
elseif(result EQUAL 0 OR NOT output MATCHES "${EXPECTED}")
  message(FATAL_ERROR "must not compile, and say `${EXPECTED}`:\n${output}")
endif()
