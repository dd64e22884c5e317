// The auxiliary losses of a call, by name.
#pragma once

#include <algorithm>
#include <cstring>

#include "moe/core/check.hpp"

MOE_NAMESPACE_BEGIN

/// Auxiliary losses of one call, coefficients applied: what is added to the task's loss.
class AuxiliaryLosses {
 public:
  struct Entry {
    const char* name;
    double value;
  };
  static constexpr int kMost = 32;

  /// Throws config_error for more than kMost entries.
  void add(const char* name, double value) {
    if (count_ == kMost)
      fail<config_error>("auxiliary losses: expected at most ", kMost, ", got one more: ", name);
    entry_[count_++] = {name, value};
  }
  /// Adds another call's, losses of one name to each other. Throws as add().
  void add(const AuxiliaryLosses& other) {
    for (const Entry& e : other) {
      Entry* const same = std::find_if(entry_, entry_ + count_,
                                       [&](const Entry& own) { return std::strcmp(own.name, e.name) == 0; });
      if (same == entry_ + count_) {
        add(e.name, e.value);
      } else {
        same->value += e.value;
      }
    }
  }
  void clear() noexcept { count_ = 0; }
  double total() const noexcept {
    double sum = 0;
    for (int i = 0; i < count_; ++i) sum += entry_[i].value;
    return sum;
  }
  const Entry* begin() const noexcept { return entry_; }
  const Entry* end() const noexcept { return entry_ + count_; }

 private:
  Entry entry_[kMost] = {};
  int count_ = 0;
};

MOE_NAMESPACE_END
