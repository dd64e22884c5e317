// JSON as a tree of plain values: the one header that includes nlohmann/json, whose parser builds it. Strict:
// one value, UTF-8, no comments, no duplicate keys, bounded depth and size.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "moe/core/check.hpp"
#include "moe/io/file/text.hpp"

MOE_NAMESPACE_BEGIN
namespace io {

/// A JSON value. Integers that fit 64 signed bits keep their value; every other number is a `real`.
class Json {
 public:
  enum class Kind : std::uint8_t { null, boolean, integer, real, string, array, object };
  using Array = std::vector<Json>;
  /// Members in the order of the text: names[i] has values[i].
  struct Object {
    std::vector<std::string> names;
    std::vector<Json> values;
  };

  Json() = default;
  template <class T>
  explicit Json(T value) : value_(std::in_place_type<T>, std::move(value)) {}

  Kind kind() const noexcept { return static_cast<Kind>(value_.index()); }
  bool is(Kind k) const noexcept { return kind() == k; }

  /// The value if it is of that kind, else null.
  const bool* boolean() const noexcept { return std::get_if<bool>(&value_); }
  const std::int64_t* integer() const noexcept { return std::get_if<std::int64_t>(&value_); }
  const double* real() const noexcept { return std::get_if<double>(&value_); }
  const std::string* string() const noexcept { return std::get_if<std::string>(&value_); }
  const Array* array() const noexcept { return std::get_if<Array>(&value_); }
  Array* array() noexcept { return std::get_if<Array>(&value_); }
  const Object* object() const noexcept { return std::get_if<Object>(&value_); }
  Object* object() noexcept { return std::get_if<Object>(&value_); }

  /// The member called `name`, or null: also of a value that is no object.
  const Json* find(std::string_view name) const noexcept;

  /// What it is, for messages: `8`, `"silu"`, `null`, `a list of 3`, `an object of 2 members`.
  std::string describe() const;

 private:
  std::variant<std::monostate, bool, std::int64_t, double, std::string, Array, Object> value_;
};

inline const Json* Json::find(std::string_view name) const noexcept {
  const Object* const members = object();
  if (members == nullptr) return nullptr;
  for (std::size_t i = 0; i < members->names.size(); ++i) {
    if (members->names[i] == name) return &members->values[i];
  }
  return nullptr;
}

inline std::string Json::describe() const {
  switch (kind()) {
    case Kind::null:
      return "null";
    case Kind::boolean:
      return *boolean() ? "true" : "false";
    case Kind::integer:
      return std::to_string(*integer());
    case Kind::real: {
      char digits[40];
      std::snprintf(digits, sizeof digits, "%g", *real());
      const bool whole = std::strpbrk(digits, ".en") == nullptr;  // of 8.0 "%g" makes 8
      return whole ? std::string(digits) + ".0" : digits;
    }
    case Kind::string:
      return in_quotes(*string());
    case Kind::array:
      return "a list of " + std::to_string(array()->size());
    case Kind::object:
      break;
  }
  return "an object of " + std::to_string(object()->names.size()) + " members";
}

struct JsonLimits {
  Index bytes = Index{64} << 20;
  Index depth = 32;               // of objects and lists in one another
  Index values = Index{8} << 20;  // in all: a list of zeros takes 30 times its bytes of text
  /// Takes the words NaN, Infinity and -Infinity, which Python writes into config files, for strings.
  bool python_constants = false;
};

namespace impl {

/// A character of the text. Its own type, so that what the parser is compiled to carries our ABI tag.
class JsonCharacter {
 public:
  using iterator_category = std::forward_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  JsonCharacter() = default;
  explicit JsonCharacter(const char* at) noexcept : at_(at) {}
  reference operator*() const noexcept { return *at_; }
  JsonCharacter& operator++() noexcept {
    ++at_;
    return *this;
  }
  JsonCharacter operator++(int) noexcept { return JsonCharacter(at_++); }
  friend bool operator==(const JsonCharacter&, const JsonCharacter&) = default;

 private:
  const char* at_ = nullptr;
};

/// What the parser reports, made a tree. Throws format_error beginning with `file`.
class JsonBuilder {
 public:
  JsonBuilder(const char* file, const JsonLimits& limits) : file_(file), limits_(limits) {}
  Json& result() noexcept { return root_; }

  bool null() { return put(Json()); }
  bool boolean(bool value) { return put(Json(value)); }
  bool number_integer(std::int64_t value) { return put(Json(value)); }
  bool number_unsigned(std::uint64_t value) {
    return value <= std::uint64_t{INT64_MAX} ? put(Json(static_cast<std::int64_t>(value)))
                                             : put(Json(static_cast<double>(value)));
  }
  bool number_float(double value, const std::string&) { return put(Json(value)); }
  bool string(std::string& value) { return put(Json(std::move(value))); }
  template <class Bytes>
  bool binary(const Bytes&) {
    return false;  // not in text
  }
  bool start_object(std::size_t) { return open(Json(Json::Object{})); }
  bool start_array(std::size_t) { return open(Json(Json::Array{})); }
  bool key(std::string& name) {
    open_.back().object()->names.push_back(std::move(name));
    return true;
  }
  bool end_array() { return close(); }
  bool end_object() {
    require_different(open_.back().object()->names);
    return close();
  }
  template <class Error>
  bool parse_error(std::size_t position, const std::string&, const Error& error) {
    const std::string why = in_quotes(error.what(), 200);
    fail<format_error>(file_, ": expected JSON, got an error at byte ", position, ": ", why.c_str());
  }

 private:
  bool open(Json value) {
    if (static_cast<Index>(open_.size()) == limits_.depth) {
      fail<format_error>(file_, ": expected JSON nested at most ", limits_.depth, " deep, got more");
    }
    open_.push_back(std::move(value));
    return true;
  }
  bool close() {
    Json done = std::move(open_.back());
    open_.pop_back();
    return put(std::move(done));
  }
  bool put(Json value) {
    if (++values_ > limits_.values) {
      fail<format_error>(file_, ": expected JSON of at most ", limits_.values, " values, got more");
    }
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (Json::Array* const list = open_.back().array()) {
      list->push_back(std::move(value));
    } else {
      open_.back().object()->values.push_back(std::move(value));
    }
    return true;
  }
  void require_different(const std::vector<std::string>& names) const {
    std::vector<const std::string*> sorted;
    sorted.reserve(names.size());
    for (const std::string& name : names) sorted.push_back(&name);
    std::sort(sorted.begin(), sorted.end(),
              [](const std::string* a, const std::string* b) noexcept { return *a < *b; });
    for (std::size_t i = 1; i < sorted.size(); ++i) {
      if (*sorted[i] == *sorted[i - 1]) {
        fail<format_error>(file_, ": expected different keys in an object, got two of ",
                           in_quotes(*sorted[i]).c_str());
      }
    }
  }

  const char* file_;
  JsonLimits limits_;
  Json root_;
  std::vector<Json> open_;
  Index values_ = 0;
};

/// Puts quotation marks around Python's constants where they stand outside of strings.
inline std::string without_python_constants(std::string_view text) {
  constexpr std::string_view kConstants[] = {"-Infinity", "Infinity", "NaN"};
  std::string out;
  out.reserve(text.size() + 16);
  bool in_string = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (in_string && c == '\\' && at + 1 < text.size()) {
      out += c;
      out += text[++at];
      continue;
    }
    if (c == '"') in_string = !in_string;
    std::string_view found;
    for (const std::string_view constant : kConstants) {
      if (!in_string && found.empty() && text.substr(at, constant.size()) == constant) found = constant;
    }
    if (found.empty()) {
      out += c;
    } else {
      out.append("\"").append(found).append("\"");
      at += found.size() - 1;
    }
  }
  return out;
}

}  // namespace impl

/// The value that `text` spells. Throws format_error that begins with `file`, for text that is not JSON,
/// beyond the limits, or has two members of one name in an object.
inline Json parse_json(std::string_view text, const std::string& file, const JsonLimits& limits = {}) {
  if (text.size() > static_cast<std::size_t>(limits.bytes)) {
    fail<format_error>(file.c_str(), ": expected JSON of at most ", limits.bytes, " bytes, got ",
                       text.size());
  }
  // Both would pass the parser: it takes NUL for the end of the text and skips a byte-order mark.
  if (text.find('\0') != std::string_view::npos) {
    fail<format_error>(file.c_str(), ": expected JSON, got a byte 0 at ", text.find('\0'));
  }
  if (text.substr(0, 1) == "\xEF") {
    fail<format_error>(file.c_str(), ": expected JSON, got a byte-order mark in front of it");
  }
  std::string replaced;
  if (limits.python_constants) text = replaced = impl::without_python_constants(text);
  impl::JsonBuilder builder(file.c_str(), limits);
  nlohmann::json::sax_parse(impl::JsonCharacter(text.data()), impl::JsonCharacter(text.data() + text.size()),
                            &builder);
  return std::move(builder.result());
}

}  // namespace io
MOE_NAMESPACE_END
