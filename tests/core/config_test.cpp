#include "moe/config.hpp"

#include <string>
#include <typeinfo>

#include "moe/core/types.hpp"
#include "support/catch.hpp"

MOE_NAMESPACE_BEGIN
struct ProbeOfTheTag {};
MOE_NAMESPACE_END

namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

const std::string kTag = MOE_STRINGIFY(MOE_ABI_TAG);

TEST_CASE("the ABI tag is part of every name of the library", "[core]") {
  static_assert(std::is_same_v<moe::ProbeOfTheTag, moe::MOE_ABI_TAG::ProbeOfTheTag>);
  CHECK(contains(typeid(moe::ProbeOfTheTag).name(), kTag));
}

TEST_CASE("the ABI tag spells the version", "[core]") {
  const std::string version = "v" + std::to_string(MOE_VERSION_MAJOR) + "_" +
                              std::to_string(MOE_VERSION_MINOR) + "_" + std::to_string(MOE_VERSION_PATCH);
  CHECK(kTag.rfind(version + "_", 0) == 0);
}

TEST_CASE("the ABI tag spells what the compiler may use", "[core]") {
  // Fields: version (three), instruction set, extensions (may be empty), options.
  const std::size_t isa = kTag.find('_', kTag.find('_', kTag.find('_') + 1) + 1) + 1;
  const std::size_t extensions = kTag.find('_', isa) + 1;
  REQUIRE(isa > 1);
  REQUIRE(extensions > isa);
  const std::string base = kTag.substr(isa, extensions - 1 - isa);
  const std::string letters = kTag.substr(extensions, kTag.find('_', extensions) - extensions);
#if defined(__AVX512F__)
  CHECK(base == "avx512");
#elif defined(__AVX2__)
  CHECK(base == "avx2");
#elif defined(__SSE2__) && !defined(__SSE3__)
  CHECK(base == "sse2");
#else
  CHECK(!base.empty());
#endif
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  CHECK(contains(letters, "f"));
#else
  CHECK(!contains(letters, "f"));
#endif
#if defined(NDEBUG)
  CHECK(!contains(kTag, "_debug"));
#else
  CHECK(contains(kTag, "_debug"));
#endif
#if defined(__FAST_MATH__)
  CHECK(contains(kTag, "_fastmath"));
#else
  CHECK(!contains(kTag, "_fastmath"));
#endif
}

}  // namespace
