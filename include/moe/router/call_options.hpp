// Options of a call by name; and those that a router cannot obey: they are refused, never ignored.
#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string_view>
#include <system_error>
#include <type_traits>

#include "moe/core/check.hpp"
#include "moe/core/input.hpp"
#include "moe/kernel/finite.hpp"

MOE_NAMESPACE_BEGIN

/// An option of a call as text, of a command line or a configuration: {"k", "2"}.
struct NamedOption {
  const char* name = nullptr;
  const char* value = nullptr;
};

namespace impl {

/// A decimal number > 0 that is the whole text, or config_error.
template <class Number>
Number option_value(const NamedOption& option) {
  constexpr bool kWhole = std::is_integral_v<Number>;
  const std::string_view text = option.value == nullptr ? "" : option.value;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool number = error == std::errc{} && end == text.data() + text.size() && value > 0;
  const bool fits = kWhole ? value <= INT32_MAX && value == std::floor(value) : is_finite(value);
  if (number && fits) return static_cast<Number>(value);
  fail<config_error>(option.name, ": expected ",
                     kWhole ? "a whole number >= 1" : "a finite number > 0 (none: the router's own)",
                     ", got ", text.empty() ? "nothing" : option.value);
}

}  // namespace impl

/// Options by the names k, capacity_factor, temperature, threshold and p; those that are not named stay the
/// router's own. Throws config_error that lists the names for another one, and for one that is named twice or
/// whose value is no number > 0. Whether a router obeys them its calls say.
inline CallOptions call_options(std::span<const NamedOption> named) {
  CallOptions options;
  for (const NamedOption& option : named) {
    bool known = false;
    impl::Text names;
    CallOptions::each([&]<class Number>(const char* name, Number CallOptions::*member) {
      names.append(names.c_str()[0] == '\0' ? "" : ", ");
      names.append(name);
      if (option.name == nullptr || std::strcmp(option.name, name) != 0) return;
      known = true;
      if (options.*member != Number{0}) fail<config_error>(name, ": expected it once, got it twice");
      options.*member = impl::option_value<Number>(option);
    });
    if (!known) {
      fail<config_error>("options of a call: expected one of ", names.c_str(), ", got ",
                         option.name == nullptr ? "no name" : option.name);
    }
  }
  return options;
}
/// call_options({{"k", "2"}, {"temperature", "0.5"}}).
inline CallOptions call_options(std::initializer_list<NamedOption> named) {
  return call_options(std::span<const NamedOption>(named.begin(), named.size()));
}

namespace impl {

/// Throws config_error when a call sets an option that whatever is called `of...` cannot obey.
template <class Number, class... Of>
void refuse_option(const char* name, Number value, const Of&... of) {
  if (value != Number{0}) {
    fail<config_error>(name, ": expected none for ", of..., ", which cannot obey it, got ", value);
  }
}

/// Throws config_error for a capacity factor outside (0, 1e9].
inline void check_capacity_factor(double factor) {
  if (!(factor > 0 && factor <= 1e9)) {
    fail<config_error>("capacity factor: expected a value in (0, 1e9], got ", factor);
  }
}
/// The call's, checked, or a selection's own.
inline double capacity_factor_of(const CallOptions& options, double own) {
  if (options.capacity_factor == 0) return own;
  check_capacity_factor(options.capacity_factor);
  return options.capacity_factor;
}

/// Refuses every option that speaks of scores, for routers without them.
template <class... Of>
void refuse_score_options(const CallOptions& options, const Of&... of) {
  refuse_option("capacity factor", options.capacity_factor, of...);
  refuse_option("temperature", options.temperature, of...);
  refuse_option("threshold", options.threshold, of...);
  refuse_option("p", options.p, of...);
}

/// Refuses every option of a selection but K, for those that take the k best.
template <class... Of>
void refuse_all_but_k(const CallOptions& options, const Of&... of) {
  refuse_option("threshold", options.threshold, of...);
  refuse_option("capacity factor", options.capacity_factor, of...);
  refuse_option("p", options.p, of...);
}

}  // namespace impl

MOE_NAMESPACE_END
