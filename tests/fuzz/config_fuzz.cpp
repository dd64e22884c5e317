// Text as a config file: refused with format_error, or every member reads as its type and as no other.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "moe/io/json/config.hpp"

namespace {

using moe::io::Config;
using moe::io::Json;

template <class T>
bool reads_as(const Config& config, const std::string& key) {
  try {
    static_cast<void>(config.required<T>(key));
    return true;
  } catch (const moe::config_error&) {
    return false;
  }
}

void visit(const Config& config) {
  for (const std::string& key : config.json().object()->names) {
    const Json& value = *config.json().find(key);
    const bool integer = value.is(Json::Kind::integer), real = value.is(Json::Kind::real);
    if (reads_as<moe::Index>(config, key) != integer || reads_as<double>(config, key) != (integer || real) ||
        reads_as<bool>(config, key) != value.is(Json::Kind::boolean) ||
        reads_as<std::string>(config, key) != value.is(Json::Kind::string) || value.describe().empty()) {
      std::abort();
    }
    if (config.has_section(key)) visit(config.section(key));
    if (config.has_list(key)) {
      try {
        static_cast<void>(config.per_layer<double>(key, 1));
      } catch (const moe::config_error&) {
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    visit(Config::from_text({reinterpret_cast<const char*>(data), size}, "input"));
  } catch (const moe::format_error&) {
  }
  return 0;
}
