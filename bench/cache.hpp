// What is expensive to make (weights, inputs, a peer's copies) is kept under a name while memory lasts, so
// that benchmarks can run interleaved in any order.
#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <string>

namespace bench {

class Cache {
 public:
  static Cache& global() {
    static Cache cache;
    return cache;
  }

  /// The T called `name`, made by make() if there is none. `bytes` is its size; those not asked for the
  /// longest go first when all would exceed kMost.
  template <class T, class Make>
  std::shared_ptr<T> get(const std::string& name, std::size_t bytes, Make make) {
    for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
      if (entry->name != name) continue;
      entries_.splice(entries_.begin(), entries_, entry);
      return std::static_pointer_cast<T>(entry->value);
    }
    while (!entries_.empty() && total() + bytes > kMost) entries_.pop_back();
    std::shared_ptr<T> made = make();
    entries_.push_front({name, bytes, made});
    return made;
  }

 private:
  static constexpr std::size_t kMost = std::size_t{6} << 30;

  struct Entry {
    std::string name;
    std::size_t bytes;
    std::shared_ptr<void> value;
  };

  std::size_t total() const {
    std::size_t sum = 0;
    for (const Entry& entry : entries_) sum += entry.bytes;
    return sum;
  }

  std::list<Entry> entries_;
};

}  // namespace bench
