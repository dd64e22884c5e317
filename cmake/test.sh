#!/bin/sh
# All tests: installs the packages that are missing (Debian, Ubuntu), builds, runs. Arguments go to ctest.
set -eu
moe_root=$(cd "$(dirname "$0")/.." && pwd)
. "$moe_root/cmake/setup.sh"

moe_install_tools catch2 pkg-config binutils nlohmann-json3-dev
moe_build test
moe_test test "$@"
