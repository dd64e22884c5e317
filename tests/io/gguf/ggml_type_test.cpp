#include "moe/io/gguf/ggml_type.hpp"

#include <cstdint>
#include <string>

#include "support/catch.hpp"

using moe::io::GgmlType;

TEST_CASE("ggml types: sizes, and names also of those that are not decoded", "[io]") {
  CHECK(moe::io::ggml_block(static_cast<GgmlType>(16)).numbers == 0);  // IQ2_XXS
  CHECK(moe::io::ggml_block(GgmlType::MXFP4).bytes == 17);
  const auto name = [](std::uint32_t type) {
    return std::string(moe::io::ggml_type_name(static_cast<GgmlType>(type)));
  };
  CHECK(name(0) == "F32");
  CHECK(name(8) == "Q8_0");
  CHECK(name(12) == "Q4_K");
  CHECK(name(20) == "IQ4_NL");
  CHECK(name(30) == "BF16");
  CHECK(name(39) == "MXFP4");
  CHECK(name(40) == "NVFP4");
  CHECK(name(4) == "unknown");
  CHECK(name(33) == "unknown");
  CHECK(name(4000000000) == "unknown");
}
