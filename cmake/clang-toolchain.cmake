# The newest clang++ of this machine, whatever its number.
set(clang_names "")
foreach(version RANGE 50 14 -1)
  list(APPEND clang_names clang++-${version})
endforeach()
find_program(MOE_CLANG NAMES ${clang_names} clang++ REQUIRED)
set(CMAKE_CXX_COMPILER "${MOE_CLANG}")
