#!/bin/sh
# Line coverage of include/moe, per room and in total, by all tests or by some: sh cmake/coverage.sh [TEST]...
# (TEST: test_plan, test_router, ...). Builds preset coverage (g++), runs it, asks gcov, prints a table.
# What no test instantiates has no lines and does not count.
set -eu
moe_root=$(cd "$(dirname "$0")/.." && pwd)
. "$moe_root/cmake/setup.sh"

moe_install_tools catch2 pkg-config binutils nlohmann-json3-dev
build=$moe_root/build/coverage
if [ $# -eq 0 ]; then
  moe_build coverage
else
  [ -e "$build/CMakeCache.txt" ] || (cd "$moe_root" && cmake --preset coverage)
  cmake --build "$build" --parallel "$moe_jobs" --target "$@"
fi
find "$build" -name '*.gcda' -delete
moe_test coverage ${1:+--tests-regex "^($(echo "$*" | tr ' ' '|'))\$"}

# gcov's text: `0:Source:` opens a file, then `<count>:<line>:<text>`, #####: never, -: no code; a line of a template comes
# once for each instantiation, in each program. It is covered if any of them ran.
find "$build" -name '*.gcda' | sort |
  xargs gcov --stdout --relative-only --source-prefix "$moe_root" 2>/dev/null |
  awk -F: '
    $2 + 0 == 0 && $3 == "Source" { file = $4; ours = file ~ /^include\/moe\//; next }
    !ours || $2 + 0 == 0 || $1 ~ /- *$/ { next }
    { line = file ":" ($2 + 0) }
    !(line in ran) { ran[line] = 0; room[line] = file }
    $1 ~ /^ *[0-9]/ { ran[line] = 1 }
    END {
      for (line in ran) {
        name = room[line]
        sub(/^include\/moe\//, "", name)
        if (!sub(/\/[^\/]*$/, "", name)) name = "."
        lines[name]++; hit[name] += ran[line]; all++; total += ran[line]
      }
      if (!all) { print "no line of include/moe in gcov'"'"'s output" >"/dev/stderr"; exit 1 }
      for (name in lines) printf "%-24s %6d of %6d lines  %5.1f %%\n", name, hit[name], lines[name], 100 * hit[name] / lines[name] | "sort"
      close("sort")
      printf "%-24s %6d of %6d lines  %5.1f %%\n", "include/moe", total, all, 100 * total / all
    }'
