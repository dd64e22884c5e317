# Common parts of demo.sh, test.sh and .ci/run: sourced by them, POSIX sh. They set moe_root, the repository, before.

moe_jobs=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)

moe_missing() {
  for package in "$@"; do
    case $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) in
      "install ok installed") ;;
      *) printf ' %s' "$package" ;;
    esac
  done
}

moe_apt_get() {
  if [ "$(id -u)" -eq 0 ]; then
    DEBIAN_FRONTEND=noninteractive apt-get -qq "$@"
  elif command -v sudo >/dev/null; then
    sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq "$@"
  else
    echo "This needs root: apt-get $*" >&2
    exit 1
  fi
}

# moe_install PACKAGE...: installs those that are missing, from the distribution.
moe_install() {
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    echo "There is no apt here. Please install what these Debian packages hold:" >&2
    echo "  $*" >&2
    echo "(a C++20 compiler such as g++ 12, CMake 3.21, Eigen 3.4, xsimd 8.1, Catch2 2.13, or newer), then use" >&2
    echo "the presets: cmake --list-presets" >&2
    exit 1
  fi
  missing=$(moe_missing "$@")
  if [ -z "$missing" ]; then
    echo "All packages are there: $*"
    return
  fi
  echo "Installing the missing packages:$missing"
  # Without package lists, or with old ones, it works only after an update.
  if ! apt-cache show $missing >/dev/null 2>&1 || ! moe_apt_get install -y --no-install-recommends $missing; then
    moe_apt_get update
    moe_apt_get install -y --no-install-recommends $missing
  fi
}

# moe_install_tools [PACKAGE]...: what every build needs, and these.
moe_install_tools() { moe_install g++ cmake make ninja-build libeigen3-dev libxsimd-dev "$@"; }

# moe_build PRESET [CMAKE ARGUMENT]...: configures and builds into build/PRESET with all cores.
moe_build() {
  preset=$1
  shift
  if [ ! -e "$moe_root/build/$preset/CMakeCache.txt" ] && command -v ninja >/dev/null; then
    set -- -G "${CMAKE_GENERATOR:-Ninja}" "$@"
  fi
  (cd "$moe_root" && cmake --preset "$preset" "$@" && cmake --build --preset "$preset" --parallel "$moe_jobs")
}

# moe_test PRESET [CTEST ARGUMENT]...
moe_test() {
  preset=$1
  shift
  (cd "$moe_root" && ctest --preset "$preset" --parallel "$moe_jobs" "$@")
}
