// Numbers as bytes in files: little-endian, whatever the machine.
#pragma once

#include <cstddef>

#include "moe/config.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

template <class U>
void store_little(std::byte* to, U value) noexcept {
  for (std::size_t i = 0; i < sizeof(U); ++i) to[i] = static_cast<std::byte>(value >> (8 * i) & 0xFF);
}
template <class U>
U load_little(const std::byte* from) noexcept {
  U value = 0;
  for (std::size_t i = 0; i < sizeof(U); ++i) value |= static_cast<U>(from[i]) << (8 * i);
  return value;
}

}  // namespace impl

MOE_NAMESPACE_END
