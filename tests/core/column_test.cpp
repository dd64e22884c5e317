#include "moe/core/column.hpp"

#include <Eigen/Core>
#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/errors.hpp"

namespace {

using moe::Column;
using moe::Index;

// Numbers with a fraction do not become integers, nor strings anything.
static_assert(!std::is_convertible_v<std::vector<float>&, Column<std::int32_t>>);
static_assert(!std::is_convertible_v<std::vector<double>&, Column<bool>>);
static_assert(!std::is_convertible_v<std::vector<std::string>&, Column<double>>);
static_assert(!std::is_convertible_v<int, Column<std::int32_t>>);

template <class T>
std::vector<T> values(const Column<T>& column) {
  return std::vector<T>(column.begin(), column.end());
}

}  // namespace

TEST_CASE("a column borrows what is stored as it is read", "[core]") {
  const std::vector<std::int32_t> vector{1, 2, 3};
  const std::array<std::int32_t, 2> array{4, 5};
  const std::int32_t plain[] = {6};
  moe::Buffer<std::int32_t> buffer(4);
  CHECK(Column<std::int32_t>(vector).data() == vector.data());
  CHECK(Column<std::int32_t>(array).data() == array.data());
  CHECK(Column<std::int32_t>(plain).data() == plain);
  CHECK(Column<std::int32_t>(buffer).data() == buffer.data());
  CHECK(Column<std::int32_t>(std::span<const std::int32_t>(vector)).data() == vector.data());
  CHECK(Column<std::int32_t>(std::span<std::int32_t>(buffer.data(), 2)).size() == 2);
  const Column<std::int32_t> borrowed = vector, copy = borrowed;
  CHECK(copy.data() == vector.data());
  CHECK((copy.size() == 3 && copy[2] == 3));
  const Column<std::int32_t> none;
  CHECK((none.empty() && none.data() == nullptr));
}

TEST_CASE("a column converts what is not", "[core]") {
  const std::vector<bool> bits{true, false, true};
  CHECK(values<bool>(bits) == bits);
  CHECK(values<bool>(std::vector<std::uint8_t>{1, 0}) == std::vector<bool>{true, false});
  CHECK(values<bool>(Eigen::Array<bool, 1, 2>(true, false)) == std::vector<bool>{true, false});
  CHECK(values<std::int32_t>(std::vector<std::int64_t>{-7, 1L << 30}) ==
        std::vector<std::int32_t>{-7, 1 << 30});
  CHECK(values<std::int32_t>(std::vector<char>{1, 2}) == std::vector<std::int32_t>{1, 2});
  CHECK(values<std::uint64_t>(std::vector<int>{0, 3}) == std::vector<std::uint64_t>{0, 3});
  CHECK(values<Index>(std::array<int, 2>{0, 9}) == std::vector<Index>{0, 9});
  CHECK(values<double>(std::vector<Index>{2, 5}) == std::vector<double>{2, 5});
  // Eigen's vectors may have a stride.
  Eigen::Matrix<int, 3, 2, Eigen::RowMajor> m;
  m << 1, 2, 3, 4, 5, 6;
  CHECK(values<std::int32_t>(m.col(1)) == std::vector<std::int32_t>{2, 4, 6});
}

TEST_CASE("values that do not fit are refused, not cut", "[core]") {
  const auto message = []<class T>(T, const auto& entries) {
    return test::message_of<moe::route_error>([&] { Column<T>{entries}; });
  };
  constexpr std::int64_t kBeyond = std::int64_t{1} << 32;
  CHECK(message(std::int32_t{}, std::vector<std::int64_t>{3, kBeyond + 1}) ==
        "moe: column: expected entries in [-2147483648, 2147483647], got 4294967297 at position 1");
  CHECK(message(std::int32_t{}, std::vector<std::int64_t>{-kBeyond}) ==
        "moe: column: expected entries in [-2147483648, 2147483647], got -4294967296 at position 0");
  CHECK(message(std::int32_t{}, std::vector<std::uint32_t>{0xffffffffu}) ==
        "moe: column: expected entries in [-2147483648, 2147483647], got 4294967295 at position 0");
  CHECK(message(std::uint64_t{}, std::vector<int>{-1}) ==
        "moe: column: expected entries in [0, 18446744073709551615], got -1 at position 0");
  CHECK(message(Index{}, std::vector<std::uint64_t>{std::numeric_limits<std::uint64_t>::max()}) ==
        "moe: column: expected entries in [-9223372036854775808, 9223372036854775807], got "
        "18446744073709551615 at position 0");
  CHECK(message(bool{}, std::vector<int>{1, 2}) ==
        "moe: column: expected entries in [0, 1], got 2 at position 1");
}

TEST_CASE("a converted column has memory of its own, and so has its copy", "[core]") {
  Column<std::int32_t> first = std::vector<std::int64_t>{1, 2, 3};
  const Column<std::int32_t> copy = first, borrowed = first.borrow();
  CHECK(copy.data() != first.data());
  CHECK(borrowed.data() == first.data());
  const std::int32_t* const data = first.data();
  Column<std::int32_t> moved = std::move(first);
  CHECK(moved.data() == data);
  CHECK(first.empty());  // NOLINT(bugprone-use-after-move)
  moved = std::vector<std::int64_t>{9};
  CHECK(values(moved) == std::vector<std::int32_t>{9});
  CHECK(values(copy) == std::vector<std::int32_t>{1, 2, 3});
  moved = {};
  CHECK(moved.empty());
  Column<std::int32_t>& same = moved;
  moved = copy;
  moved = same;
  CHECK(values(moved) == values(copy));
}
