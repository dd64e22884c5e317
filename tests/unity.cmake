# cmake -DOUTPUT=<file> -DSOURCES=<test files, separated by |> -P unity.cmake: one translation unit of several test
# files. All their includes come first; then each file stands in a namespace of its own, where its includes bring
# nothing more, so that its names clash with no other file's.
cmake_minimum_required(VERSION 3.21)
string(REPLACE "|" ";" sources "${SOURCES}")
set(includes "")
set(text "")
set(i 0)
foreach(source IN LISTS sources)
  file(STRINGS "${source}" lines REGEX "^#include ")
  list(APPEND includes ${lines})
  string(APPEND text "namespace unity_${i} {\n#include \"${source}\"\n}  // namespace unity_${i}\n")
  math(EXPR i "${i} + 1")
endforeach()
list(REMOVE_DUPLICATES includes)
list(JOIN includes "\n" includes)
file(WRITE "${OUTPUT}" "${includes}\n\n${text}")
