#include "moe/core/buffer.hpp"

#include <cstdint>
#include <string>
#include <utility>

#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/taken.hpp"

namespace {

using moe::Buffer;
using moe::Index;

static_assert(std::is_nothrow_move_constructible_v<Buffer<float>> &&
              std::is_nothrow_move_assignable_v<Buffer<float>>);

template <class T>
bool aligned(const Buffer<T>& buffer) {
  return reinterpret_cast<std::uintptr_t>(buffer.data()) % moe::kAlignment == 0;
}

Buffer<int> counting(Index n) {
  Buffer<int> b(n);
  for (Index i = 0; i < n; ++i) b[i] = static_cast<int>(i) + 1;
  return b;
}

bool counts(const Buffer<int>& b, Index n) {
  if (b.size() != n) return false;
  int expected = 1;
  for (const int value : b) {
    if (value != expected++) return false;
  }
  return expected == n + 1;
}

TEST_CASE("Buffer: empty", "[core][smoke]") {
  Buffer<double> b;
  CHECK(b.size() == 0);
  CHECK(b.empty());
  CHECK(b.begin() == b.end());
  b.resize(0);
  b.fill(1.0);
  b.copy_from(nullptr, 0);
  CHECK(b.empty());
  const Buffer<double> zero(0);
  const Buffer<double> copy(zero);
  CHECK(copy.empty());
}

TEST_CASE("Buffer: values start as zero, aligned to a cache line", "[core][smoke]") {
  for (const Index n : {1, 2, 3, 17, 64, 1000}) {
    const Buffer<char> bytes(n);
    const Buffer<double> values(n);
    CHECK(aligned(bytes));
    CHECK(aligned(values));
    CHECK(values.size() == n);
    CHECK(values.end() - values.begin() == n);
    double sum = 0;
    for (const double v : values) sum += v * v;
    CHECK(sum == 0);
  }
}

TEST_CASE("Buffer keeps its memory when it shrinks", "[core][smoke]") {
  Buffer<float> b(100);
  float* const data = b.data();
  CHECK(b.resize(10) == data);
  CHECK(b.size() == 10);
  CHECK(b.resize(0) == data);
  CHECK(b.resize(100) == data);
  CHECK(b.assign(99, 2.5f) == data);
  CHECK((b.size() == 99 && b[0] == 2.5f && b[98] == 2.5f));
  b.resize(101);
  CHECK(b.size() == 101);
  CHECK(aligned(b));
  b[100] = 1;  // within its memory, says the address sanitizer
}

TEST_CASE("Buffer: assign and fill take a value of the buffer itself", "[core][smoke]") {
  Buffer<int> b = counting(3);
  b.assign(1000, b[2]);  // grows: the old memory goes
  CHECK((b.size() == 1000 && b[0] == 3 && b[999] == 3));
  b[1] = 7;
  b.fill(b[1]);
  CHECK((b[0] == 7 && b[2] == 7 && b[999] == 7));
}

TEST_CASE("Buffer: copies are apart, moves take the memory", "[core][smoke]") {
  Buffer<int> a = counting(20);
  Buffer<int> copy(a);
  CHECK(counts(copy, 20));
  CHECK(copy.data() != a.data());
  copy[0] = 99;
  CHECK(a[0] == 1);

  Buffer<int> assigned(3);
  assigned = a;
  CHECK(counts(assigned, 20));
  CHECK(assigned.data() != a.data());
  const Buffer<int>& same = assigned;
  assigned = same;
  CHECK(counts(assigned, 20));

  const int* const data = a.data();
  Buffer<int> moved(test::taken(a));
  CHECK(moved.data() == data);
  CHECK(counts(moved, 20));
  Buffer<int> target = counting(5);
  target = test::taken(moved);
  CHECK(target.data() == data);
  CHECK(counts(target, 20));
  CHECK((a.empty() && moved.empty()));
  target = counting(4);
  CHECK(counts(target, 4));

  Buffer<int> other = counting(7);
  other.swap(target);
  CHECK(counts(other, 4));
  CHECK(counts(target, 7));
}

TEST_CASE("Buffer: copy_from takes values from anywhere", "[core][smoke]") {
  const int values[] = {1, 2, 3, 4};
  Buffer<int> b;
  b.copy_from(values, 4);
  CHECK(counts(b, 4));
  Buffer<int> one;
  one.copy_from(values + 1, 1);
  CHECK((one.size() == 1 && one[0] == 2));
  Buffer<int> own = counting(10);
  own.copy_from(own.data() + 2, 8);
  CHECK((own.size() == 8 && own[0] == 3 && own[7] == 10));
}

TEST_CASE("Buffer: sizes that cannot be", "[core][smoke]") {
  Buffer<double> b(4);
  b[3] = 7;
  CHECK(test::message_of<moe::shape_error>([&] { b.resize(-1); }) ==
        "moe: buffer: expected a size >= 0, got -1");
  CHECK(test::message_of<moe::size_error>([&] { b.resize(PTRDIFF_MAX); }) ==
        "moe: buffer bytes: expected a product of sizes that fits 63 bits, got 9223372036854775807 x 8");
  CHECK_THROWS_AS(Buffer<char>(-5), moe::shape_error);
  CHECK(b.size() == 4);
  CHECK(b[3] == 7);  // untouched
}

}  // namespace
