// A model's config.json, read strictly: what is asked for must be there and of the right type, because a
// guessed default computes something else without a word.
#pragma once

#include <concepts>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/io/file/mapped_file.hpp"
#include "moe/io/json/json.hpp"

MOE_NAMESPACE_BEGIN
namespace io {

/// What a key of a config file can be read as.
template <class T>
concept ConfigValue = std::same_as<T, Index> || std::same_as<T, double> || std::same_as<T, bool> ||
    std::same_as<T, std::string>;

/// One object of a config file: the whole file, or a section of it. Copies share the tree. A key that is
/// there with the value null counts as absent. Every error names the file, the key with its sections, what
/// was expected and what was found.
class Config {
 public:
  /// Throws file_error or format_error.
  static Config from_file(const std::filesystem::path& path) {
    const MappedFile file(path);
    const std::span<const std::byte> bytes = file.bytes();
    return from_text({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, shown(path));
  }
  /// `file`: how messages call the text. Throws format_error for anything but one JSON object.
  static Config from_text(std::string_view text, const std::string& file) {
    JsonLimits limits;
    limits.python_constants = true;
    auto tree = std::make_shared<const Json>(parse_json(text, file, limits));
    if (!tree->is(Json::Kind::object)) {
      fail<format_error>(file.c_str(), ": expected an object, got ", tree->describe().c_str());
    }
    return Config(tree, tree.get(), file, "");
  }

  bool has(std::string_view key) const noexcept { return find(key) != nullptr; }
  bool has_section(std::string_view key) const noexcept {
    const Json* const value = find(key);
    return value != nullptr && value->is(Json::Kind::object);
  }
  bool has_list(std::string_view key) const noexcept {
    const Json* const value = find(key);
    return value != nullptr && value->is(Json::Kind::array);
  }

  /// T: Index (an integer), double (any number), bool or std::string. Throws config_error.
  template <ConfigValue T>
  T required(std::string_view key) const {
    return convert<T>(key, at(key));
  }
  template <ConfigValue T>
  std::optional<T> optional(std::string_view key) const {
    const Json* const value = find(key);
    return value == nullptr ? std::nullopt : std::optional<T>(convert<T>(key, *value));
  }
  /// `otherwise` where the key is absent: a default is always the caller's.
  template <ConfigValue T>
  T optional(std::string_view key, T otherwise) const {
    return optional<T>(key).value_or(std::move(otherwise));
  }
  /// An integer in [low, high].
  Index required_in(std::string_view key, Index low, Index high) const {
    return in_range(key, required<Index>(key), low, high);
  }
  Index optional_in(std::string_view key, Index otherwise, Index low, Index high) const {
    return in_range(key, optional<Index>(key, otherwise), low, high);
  }
  /// A finite number in [low, high].
  double number_in(std::string_view key, double low, double high) const {
    const auto value = required<double>(key);
    if (value >= low && value <= high) return value;  // not a NaN
    fail<config_error>(where(key).c_str(), ": expected a number in [", low, ", ", high, "], got ", value);
  }
  double number_in(std::string_view key, double otherwise, double low, double high) const {
    return has(key) ? number_in(key, low, high) : otherwise;
  }

  /// One value for all layers, or a list with one for each.
  template <ConfigValue T>
  T per_layer(std::string_view key, Index layer) const {
    const Json& value = at(key);
    if (!value.is(Json::Kind::array)) return convert<T>(key, value);
    const Json::Array& list = *value.array();
    if (layer < 0 || layer >= static_cast<Index>(list.size())) {
      fail<config_error>(where(key).c_str(), ": expected a value for layer ", layer, ", got a list of ",
                         list.size());
    }
    return convert<T>(std::string(key) + "[" + std::to_string(layer) + "]",
                      list[static_cast<std::size_t>(layer)]);
  }
  Index per_layer_in(std::string_view key, Index layer, Index low, Index high) const {
    return in_range(key, per_layer<Index>(key, layer), low, high);
  }

  Index list_size(std::string_view key) const { return static_cast<Index>(list_at(key).size()); }
  Buffer<Index> integers(std::string_view key) const {
    const Json::Array& list = list_at(key);
    Buffer<Index> values(static_cast<Index>(list.size()));
    for (Index i = 0; i < values.size(); ++i) {
      values[i] =
          convert<Index>(std::string(key) + "[" + std::to_string(i) + "]", list[static_cast<std::size_t>(i)]);
    }
    return values;
  }
  std::vector<std::string> strings(std::string_view key) const {
    std::vector<std::string> values;
    for (const Json& value : list_at(key)) values.push_back(convert<std::string>(key, value));
    return values;
  }

  /// The object behind `key` ("text_config", "ffn_config").
  Config section(std::string_view key) const {
    const Json& value = at(key);
    if (!value.is(Json::Kind::object)) fail_with(key, "an object", value);
    Config out(tree_, &value, file_, prefix_ + std::string(key) + ".");
    out.asked_ = asked_;
    return out;
  }

  /// A copy that notes which keys it, its copies and its sections are asked for; of one thread.
  Config watched() const {
    Config out = *this;
    out.asked_ = std::make_shared<Asked>();
    note_members(*object_, *out.asked_);
    return out;
  }
  /// Whether a watched config was asked for the key; also of one that it does not have.
  bool asked(std::string_view key) const noexcept {
    const Json* const value = object_->find(key);
    if (value == nullptr || asked_ == nullptr) return true;
    for (const auto& [member, was] : *asked_) {
      if (member == value) return was;
    }
    return true;
  }

  const std::string& file() const noexcept { return file_; }
  const Json& json() const noexcept { return *object_; }
  /// "<file>: <sections>.<key>", for further checks of the caller.
  std::string where(std::string_view key) const { return file_ + ": " + prefix_ + std::string(key); }

 private:
  Config(std::shared_ptr<const Json> tree, const Json* object, std::string file, std::string prefix)
      : tree_(std::move(tree)), object_(object), file_(std::move(file)), prefix_(std::move(prefix)) {}

  /// Members of the object and of its sections, whether asked for.
  using Asked = std::vector<std::pair<const Json*, bool>>;
  static void note_members(const Json& object, Asked& to) {
    for (const Json& value : object.object()->values) {
      to.emplace_back(&value, false);
      if (value.is(Json::Kind::object)) note_members(value, to);
    }
  }

  Index in_range(std::string_view key, Index value, Index low, Index high) const {
    if (value >= low && value <= high) return value;
    fail<config_error>(where(key).c_str(), ": expected an integer in [", low, ", ", high, "], got ", value);
  }

  const Json* find(std::string_view key) const noexcept {
    const Json* const value = object_->find(key);
    if (value != nullptr && asked_ != nullptr) {
      for (auto& [member, was] : *asked_) was = was || member == value;
    }
    return value == nullptr || value->is(Json::Kind::null) ? nullptr : value;
  }
  const Json& at(std::string_view key) const {
    const Json* const value = find(key);
    if (value != nullptr) return *value;
    fail<config_error>(where(key).c_str(), ": expected this key, got ",
                       object_->find(key) == nullptr ? "none" : "null");
  }
  const Json::Array& list_at(std::string_view key) const {
    const Json& value = at(key);
    if (!value.is(Json::Kind::array)) fail_with(key, "a list", value);
    return *value.array();
  }

  template <ConfigValue T>
  T convert(std::string_view key, const Json& value) const {
    if constexpr (std::same_as<T, bool>) {
      if (value.boolean() == nullptr) fail_with(key, "true or false", value);
      return *value.boolean();
    } else if constexpr (std::same_as<T, Index>) {
      static_assert(sizeof(Index) == sizeof(std::int64_t), "moe: checkpoints need 64-bit sizes");
      if (value.integer() == nullptr) fail_with(key, "an integer", value);
      return static_cast<Index>(*value.integer());
    } else if constexpr (std::same_as<T, double>) {
      if (value.integer() != nullptr) return static_cast<double>(*value.integer());
      if (value.real() == nullptr) fail_with(key, "a number", value);
      return *value.real();
    } else {
      if (value.string() == nullptr) fail_with(key, "a string", value);
      return *value.string();
    }
  }

  [[noreturn]] void fail_with(std::string_view key, const char* expected, const Json& found) const {
    fail<config_error>(where(key).c_str(), ": expected ", expected, ", got ", found.describe().c_str());
  }

  std::shared_ptr<const Json> tree_;
  const Json* object_;
  std::string file_;
  std::string prefix_;
  std::shared_ptr<Asked> asked_{};  // of a watched one
};

}  // namespace io
MOE_NAMESPACE_END
