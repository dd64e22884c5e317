#!/bin/sh
# Lint: format, unused includes, clang-tidy of all headers, and of the lines of other sources that differ from a git
# revision: sh cmake/lint.sh [REVISION], without one the last commit but one. Under a minute on two cores.
# Installs what is missing (Debian, Ubuntu). The version is pinned: another one formats otherwise.
set -eu
moe_root=$(cd "$(dirname "$0")/.." && pwd)
. "$moe_root/cmake/setup.sh"
cd "$moe_root"
base=${1:-HEAD~1}
failed=""

moe_install clang-format-14 clang-tidy-14 git g++ libeigen3-dev libxsimd-dev catch2 nlohmann-json3-dev

files=$(find include cmake tests bench examples -name '*.[ch]pp' | sort)
echo "clang-format and includes: $(echo "$files" | wc -l) files"
echo "$files" | xargs clang-format-14 --dry-run --Werror || failed="$failed clang-format"
awk -f cmake/includes.awk $files || failed="$failed includes"

# The headers as one source; the forms of a kernel come with its entry.
mkdir -p build/lint
cd include
find moe -name '*.hpp' | grep -v '^moe/kernel/\(ref\|simd\|isa\)/' | sort | sed 's/.*/#include "&"/' >../build/lint/headers.cpp
cd ..
tidy() {
  clang-tidy-14 --quiet --warnings-as-errors='*' "$@" -- -DMOE_ABI_ENTRY=entry -std=c++20 -march=x86-64-v3 -Iinclude -Itests -Ibench \
    -isystem /usr/include/eigen3 -DMOE_TEST_GOLDEN='""' 2>/dev/null
}
echo "clang-tidy: the headers"
tidy build/lint/headers.cpp || failed="$failed clang-tidy"

# Headers name templates only. Layers of all kinds, in what the oldest clang that we support makes of them.
echo "clang 14 compiles layers"
tidy --checks='-*,misc-misplaced-const' tests/abi/use_layers.cpp || failed="$failed clang-14"

git() { command git -c safe.directory="$moe_root" "$@"; }
if git rev-parse -q --verify "$base^{commit}" >/dev/null 2>&1; then
  # Of tests whose mistake is the point, and of sources that need a build's definitions, nothing.
  for source in $(git diff --name-only --diff-filter=d "$base" -- 'tests/*.cpp' 'examples/*.cpp' |
    grep -v '^tests/\(abi\|compile_fail\|consumer\|fuzz\)/'); do
    lines=$(git diff -U0 "$base" -- "$source" | awk '/^@@/ {
      n = split(substr($3, 2), at, ",")
      if (n == 1) at[2] = 1
      if (at[2] > 0) { printf "%s[%d,%d]", comma, at[1], at[1] + at[2] - 1; comma = "," } }')
    echo "clang-tidy: what is new in $source"
    [ -z "$lines" ] || tidy --line-filter="[{\"name\":\"$source\",\"lines\":[$lines]}]" "$source" ||
      failed="$failed clang-tidy:$source"
  done
else
  echo "clang-tidy: no revision $base here, so the headers were all"
fi

if [ -n "$failed" ]; then
  echo "lint failed:$failed" >&2
  exit 1
fi
echo "lint passed"
