// Names and paths in messages: what a hostile file calls its tensors must neither garble a terminal nor push
// the reason out of the message.
#pragma once

#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>

#include "moe/core/types.hpp"

MOE_NAMESPACE_BEGIN
namespace io {

/// `text` between quotation marks, of at most `most` bytes of it (the rest becomes "..."); bytes other than
/// printable ASCII as \xNN.
inline std::string in_quotes(std::string_view text, std::size_t most = 120) {
  std::string out = "\"";
  for (const char c : text.substr(0, most)) {
    if (c >= ' ' && c <= '~' && c != '"' && c != '\\') {
      out += c;
    } else {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\x%02X", static_cast<unsigned>(static_cast<unsigned char>(c)));
      out += escaped;
    }
  }
  out += text.size() > most ? "...\"" : "\"";
  return out;
}

/// A path for messages; of a long one the end, which tells files apart.
inline std::string shown(const std::filesystem::path& path) {
  constexpr std::size_t kMost = 160;
  std::string text = path.string();
  return text.size() <= kMost ? text : "..." + text.substr(text.size() - kMost);
}

/// `text` with every `field` ("{expert}") replaced by `number`.
inline std::string with_number(std::string text, std::string_view field, Index number) {
  const std::string digits = std::to_string(number);
  for (std::size_t at = text.find(field); at != std::string::npos; at = text.find(field, at)) {
    text.replace(at, field.size(), digits);
    at += digits.size();
  }
  return text;
}

}  // namespace io
MOE_NAMESPACE_END
