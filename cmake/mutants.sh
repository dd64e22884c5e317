#!/bin/sh
# Mutation testing: does a test fail when a line of the library is wrong? sh cmake/mutants.sh [TEXT] makes the mutants
# of cmake/mutants.txt (those whose header or test has TEXT in its path), one at a time in a copy of include/, compiles
# the one test file that is to notice it, alone and without optimisation, and runs it. Prints a table, then the share
# killed; ends with 1 if a mutant survives, 2 if the list does not fit the tree. All: about ten minutes on one core.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
only=${1:-}
work=$root/build/mutants
rm -rf "$work"
mkdir -p "$work"
cp -R "$root/include" "$work/include"

compiler=${CXX:-g++}
parsed=""  # headers of others that every test includes, once they are precompiled
compile() {
  "$compiler" -std=c++20 -O0 -w -march=native ${parsed:+-include "$parsed"} -I"$work/include" -I"$root/tests" \
    $(pkg-config --cflags eigen3) "-DMOE_TEST_GOLDEN=\"$root/tests/golden\"" "$@" < /dev/null
}
bad_list() {
  echo "cmake/mutants.txt: $1" >&2
  exit 2
}

echo "preparing"
for name in '"support/catch.hpp"' '<Eigen/Core>' '<functional>' '<map>' '<random>'; do
  echo "#include $name"
done > "$work/parsed.hpp"
compile -c -o "$work/main.o" "$root/tests/support/main.cpp"
compile -x c++-header -o "$work/parsed.hpp.gch" "$work/parsed.hpp"
parsed=$work/parsed.hpp
for support in router_laws router_cases nasty_routers layer_laws kernels decompositions counted_malloc; do
  compile -c -o "$work/$support.o" "$root/tests/support/$support.cpp"
  ar rc "$work/support.a" "$work/$support.o"
done

# The test's own object comes first: of what is compiled twice the linker keeps the first, which is the mutant.
build() {
  compile -c -o "$work/test.o" "$root/tests/$test" 2> "$work/log" &&
    "$compiler" -o "$work/test" "$work/test.o" "$work/main.o" "$work/support.a" -pthread 2>> "$work/log"
}
run() { timeout 60 "$work/test" ${filter:+"$filter"} > "$work/log" 2>&1 < /dev/null; }

# $old becomes $new in the one line of the header that has it.
mutate() {
  OLD=$old NEW=$new awk '
    { at = index($0, ENVIRON["OLD"]) }
    at > 0 { ++found; $0 = substr($0, 1, at - 1) ENVIRON["NEW"] substr($0, at + length(ENVIRON["OLD"])) }
    { print }
    END { exit found != 1 }' "$root/include/moe/$header" > "$work/include/moe/$header" ||
    bad_list "$header: expected one line with: $old"
}

all=0
killed=0
header=""
test=""
sound=""  # the test that passes without a mutant
while IFS= read -r line; do
  case $line in
    "" | "#"*) ;;
    "- "*) old=${line#- } ;;
    "+"*)
      case "$header $test" in *"$only"*) ;; *) continue ;; esac
      new=${line#+}
      new=${new# }
      if [ "$sound" != "$test $filter" ]; then
        build && run || { cat "$work/log"; bad_list "$test fails without a mutant"; }
        sound="$test $filter"
      fi
      mutate
      all=$((all + 1))
      if ! build; then
        cat "$work/log"
        bad_list "$header: does not compile: $new"
      elif run; then
        verdict=SURVIVED
      else
        verdict=killed
        killed=$((killed + 1))
      fi
      printf '%-8s  %s: %s  ->  %s  (%s)\n' "$verdict" "$header" "$old" "$new" "$test"
      cp "$root/include/moe/$header" "$work/include/moe/$header"
      ;;
    *" > "*)
      header=${line%% > *}
      test=${line#* > }
      filter=""
      case $test in *" "*) filter=${test#* } test=${test%% *} ;; esac
      [ -f "$root/include/moe/$header" ] || bad_list "no header $header"
      [ -f "$root/tests/$test" ] || bad_list "no test $test"
      ;;
    *) bad_list "expected a header > test, - old or + new, got: $line" ;;
  esac
done < "$root/cmake/mutants.txt"
[ "$all" -gt 0 ] || bad_list "no mutant of $only"
echo "$killed of $all mutants killed"
[ "$killed" -eq "$all" ]
