// Text as an index of shards: refused with format_error, or every file it names is a plain name.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>

#include "moe/io/checkpoint.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    for (const auto& [tensor, file] :
         moe::io::impl::parse_index({reinterpret_cast<const char*>(data), size}, "input")) {
      const std::filesystem::path path(file);
      const bool plain = path.has_filename() && !path.has_parent_path() && !path.has_root_path();
      if (!plain || path == "." || path == ".." || file.find('\0') != std::string::npos) std::abort();
    }
  } catch (const moe::format_error&) {
  }
  return 0;
}
