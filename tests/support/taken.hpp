// A move out of what a test goes on to look at.
#pragma once

#include <utility>

namespace test {

template <class T>
T taken(T& from) {
  return std::move(from);
}

}  // namespace test
