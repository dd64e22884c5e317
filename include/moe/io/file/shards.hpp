// Names of a model's shards: "<name>-00002-of-00005.<ending>".
#pragma once

#include <string>
#include <string_view>

#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN
namespace io {
namespace impl {

/// Where "-00002-of-00005." begins; npos in another name.
inline std::size_t shard_at(std::string_view name) noexcept {
  constexpr std::string_view kPattern = "-#####-of-#####.";
  const std::size_t dot = name.rfind('.');
  if (dot == std::string_view::npos || dot + 1 < kPattern.size()) return std::string_view::npos;
  const std::size_t at = dot + 1 - kPattern.size();
  for (std::size_t i = 0; i < kPattern.size(); ++i) {
    const char c = name[at + i];
    if (kPattern[i] == '#' ? c < '0' || c > '9' : c != kPattern[i]) return std::string_view::npos;
  }
  return at;
}
inline Index shard_digits(std::string_view name, std::size_t offset) noexcept {
  const std::size_t at = shard_at(name);
  Index n = 0;
  for (std::size_t i = 0; at != std::string_view::npos && i < 5; ++i) {
    n = 10 * n + (name[at + offset + i] - '0');
  }
  return n;
}

}  // namespace impl

/// Which shard it is, from 1, and of how many; 0 of another name.
inline Index shard_number(std::string_view name) noexcept {
  return impl::shard_digits(name, 1);
}
inline Index shard_count(std::string_view name) noexcept {
  return impl::shard_digits(name, 10);
}

/// The name of shard `number`, at most 99999, of the same model. `name`: that of a shard.
inline std::string shard_name(std::string name, Index number) {
  MOE_ASSERT(shard_number(name) > 0 && number >= 0 && number <= 99999);
  return name.replace(impl::shard_at(name) + 1, 5, std::to_string(100000 + number), 1, 5);
}

}  // namespace io
MOE_NAMESPACE_END
