# 64-bit Arm, by Debian's cross compiler; programs run under qemu (packages g++-aarch64-linux-gnu, qemu-user).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)
# Eigen, xsimd and Catch2 are headers, the same for every processor.
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
file(GLOB xsimd_DIR /usr/lib/*/cmake/xsimd)  # Debian keeps it among the files of the host's processor
