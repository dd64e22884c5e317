#!/bin/sh
# The demo, examples/04_train_text: installs the packages that are missing (Debian, Ubuntu), builds, runs.
# Arguments go to the demo.
set -eu
moe_root=$(cd "$(dirname "$0")/.." && pwd)
. "$moe_root/cmake/setup.sh"

moe_install_tools
moe_build demo
exec "$moe_root/build/demo/examples/04_train_text" "$@"
