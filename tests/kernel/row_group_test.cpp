#include "moe/kernel/row_group.hpp"

#include <cmath>
#include <cstring>
#include <limits>

#include "kernel/block_paths.hpp"
#include "kernel/guarded_row.hpp"
#include "support/catch.hpp"

namespace {

using namespace test;
using moe::prepare_row;

constexpr Index kCounts[] = {0, 1, 31, 32, 33, 63, 64, 65, 100};

/// Rows of every size of number, at any alignment, with memory guarded on both sides.
GuardedRow<float> row_of(Index count, Index shift, double size) {
  Numbers numbers(static_cast<std::uint64_t>(count * 8 + shift));
  return GuardedRow<float>(count, shift, numbers, -size, size);
}

/// groups + 1 groups, the last of which prepare_row must not touch.
template <class Group>
std::vector<Group> canaries(Index count) {
  std::vector<Group> groups(static_cast<std::size_t>(moe::ceil_div(count, kBlockRows) + 1));
  std::memset(static_cast<void*>(groups.data()), 0x55, groups.size() * sizeof(Group));
  return groups;
}
template <class Group>
bool last_intact(const std::vector<Group>& groups) {
  const auto expected = canaries<Group>(0);
  return std::memcmp(&groups.back(), expected.data(), sizeof(Group)) == 0;
}

/// Start of the 16 codes from `first` on, or of the whole group.
template <class Group>
float start_of(const Group& group, Index first) {
  if constexpr (requires { group.start[0]; }) {
    return static_cast<float>(group.start[first / 16]);
  } else {
    return first == 0 ? static_cast<float>(group.start) : 0.0f;
  }
}

template <class Arch, class Storage>
void check_codes() {
  constexpr int kOffset = StorageBlock<Storage>::kOffset;
  for (const double size : {1.0, 1e30, 3e38, 1e-30}) {
    for (const Index count : kCounts) {
      for (Index shift = 0; shift < 4; ++shift) {
        const GuardedRow<float> x = row_of(count, shift, size);
        auto groups = canaries<RowGroup<Arch, Storage>>(count);
        auto plain = canaries<RowGroup<reference_arch, Storage>>(count);
        prepare_row<Arch, Storage>(x.data(), count, groups.data());
        prepare_row<reference_arch, Storage>(x.data(), count, plain.data());
        bool right = last_intact(groups) && last_intact(plain);
        for (Index g = 0; g * kBlockRows < count; ++g) {
          const auto& group = groups[static_cast<std::size_t>(g)];
          long double largest = 0;
          for (Index j = g * kBlockRows; j < count && j < (g + 1) * kBlockRows; ++j) {
            largest = std::max(largest, std::fabs(static_cast<long double>(x[j])));
          }
          right = right && within(group.scale, largest / 127, largest / 127 * kRoundoff<float>);
          float sum[2] = {}, top = 0;
          constexpr bool kHalved = std::is_same_v<Storage, Q6K>;
          for (Index k = 0; k < kBlockRows; ++k) {
            const Index j = g * kBlockRows + k;
            const float code = number_of(group, k);
            const long double want = j < count ? static_cast<long double>(x[j]) * 127 / largest : 0;
            // Half a step, and 127 times the rounding of 127 / largest.
            right = right && within(code, want, 0.5L + 128 * kRoundoff<float>) && code == std::floor(code);
            right = right && code == number_of(plain[static_cast<std::size_t>(g)], k);
            sum[kHalved ? k / 16 : 0] += code;
            top = std::max(top, std::fabs(code));
          }
          right = right && top == 127 && start_of(group, 0) == -static_cast<float>(kOffset) * sum[0] &&
                  start_of(group, 16) == -static_cast<float>(kOffset) * sum[1];
        }
        INFO("size " << size << ", count " << count << ", shift " << shift);
        CHECK(right);
        CHECK(x.guards_intact());
      }
    }
  }
}

template <class Arch>
void check_bf16() {
  for (const double size : {1.0, 3.4e38, 1e-38}) {
    for (const Index count : kCounts) {
      for (Index shift = 0; shift < 4; ++shift) {
        GuardedRow<float> x = row_of(count, shift, size);
        if (count > 40) x[40] = std::numeric_limits<float>::infinity();
        if (count > 50) x[50] = std::bit_cast<float>(0xFF800001u);  // a NaN that truncation makes infinite
        auto groups = canaries<RowGroup<Arch, BFloat16>>(count);
        prepare_row<Arch, BFloat16>(x.data(), count, groups.data());
        bool right = last_intact(groups);
        for (Index j = 0; j < moe::round_up(count, kBlockRows); ++j) {
          const float got = number_of(groups[static_cast<std::size_t>(j / kBlockRows)], j % kBlockRows);
          const float want = j < count ? BFloat16::from_float_within(x[j]).to_float() : 0.0f;
          right = right && same_bits(&got, &want, 1);
        }
        INFO("size " << size << ", count " << count << ", shift " << shift);
        CHECK(right);
      }
    }
  }
}

/// Groups that hold something odd: what they become, and that their neighbours do not notice.
template <class Arch, class Storage>
void check_odd_groups() {
  const std::vector<float> plain = numbers<float>(96, 5);
  const auto expected = prepared<Arch, Storage>(plain);
  const float inf = std::numeric_limits<float>::infinity();
  const auto with = [&](Index at, float value) {
    std::vector<float> x = plain;
    x[static_cast<std::size_t>(at)] = value;
    auto groups = prepared<Arch, Storage>(x);
    const auto plain_loop = prepared<reference_arch, Storage>(x);
    for (Index k = 0; k < kBlockRows; ++k) CHECK(number_of(groups[1], k) == number_of(plain_loop[1], k));
    CHECK(std::memcmp(&groups[0], &expected[0], sizeof(groups[0])) == 0);
    CHECK(std::memcmp(&groups[2], &expected[2], sizeof(groups[2])) == 0);
    return groups[1];
  };
  for (const Index at : {32, 40, 63}) {
    CHECK(moe::is_nan(with(at, inf).scale));
    CHECK(moe::is_nan(with(at, -inf).scale));
    CHECK(moe::is_nan(with(at, std::numeric_limits<float>::quiet_NaN()).scale));
    CHECK(moe::is_nan(with(at, -std::numeric_limits<float>::quiet_NaN()).scale));
    CHECK(moe::is_finite(with(at, std::numeric_limits<float>::max()).scale));
  }
  for (const float tiny : {0.0f, -0.0f, 1e-44f, 0x0.fffffp-118f}) {
    const auto groups = prepared<Arch, Storage>(std::vector<float>(32, tiny));
    CHECK(groups[0].scale == 0);
    CHECK(groups[0].start == 0);
    for (Index k = 0; k < kBlockRows; ++k) CHECK(number_of(groups[0], k) == 0);
  }
  const auto least = prepared<Arch, Storage>(std::vector<float>(32, -0x1p-118f));
  CHECK(least[0].scale == 0x1p-118f / 127);
  for (Index k = 0; k < kBlockRows; ++k) CHECK(number_of(least[0], k) == -127);
}

/// A row with one scale: that of its largest number, and the codes of the plain loop.
template <class Arch>
void check_whole_rows() {
  using Storage = Int8Channels;
  for (const double size : {1.0, 3e38, 1e-30}) {
    for (const Index count : kCounts) {
      for (Index shift = 0; shift < 4; ++shift) {
        GuardedRow<float> x = row_of(count, shift, size);
        if (count > 64) x[64] = static_cast<float>(size) * 0.999f;
        const Index last = moe::row_cells<Storage>(count);
        auto cells = canaries<RowGroup<Arch, Storage>>(last * kBlockRows);
        auto plain = canaries<RowGroup<reference_arch, Storage>>(last * kBlockRows);
        prepare_row<Arch, Storage>(x.data(), count, cells.data());
        prepare_row<reference_arch, Storage>(x.data(), count, plain.data());
        long double largest = 0;
        for (Index j = 0; j < count; ++j)
          largest = std::max(largest, std::fabs(static_cast<long double>(x[j])));
        const auto header = moe::impl::header_of(cells[0]);
        bool right = last_intact(cells) && last_intact(plain) && count >= 0;
        right = right && within(header.scale, largest / 127, largest / 127 * kRoundoff<float>);
        long sum = 0;
        for (Index j = 0; j < moe::round_up(count, kBlockRows); ++j) {
          const auto at = static_cast<std::size_t>(1 + j / kBlockRows);
          const float code = number_of(cells[at], j % kBlockRows);
          const long double want = j < count ? static_cast<long double>(x[j]) * 127 / largest : 0;
          right = right && within(code, want, 0.5L + 128 * kRoundoff<float>) && code == std::floor(code);
          right = right && code == number_of(plain[at], j % kBlockRows);
          sum += static_cast<long>(code);
        }
        right = right && header.start == -128 * sum && moe::impl::header_of(plain[0]).start == header.start;
        INFO("size " << size << ", count " << count << ", shift " << shift);
        CHECK(right);
        CHECK(x.guards_intact());
      }
    }
  }
  std::vector<float> odd = numbers<float>(70, 5);
  odd[66] = std::numeric_limits<float>::quiet_NaN();
  CHECK(moe::is_nan(moe::impl::header_of(prepared<Arch, Storage>(odd)[0]).scale));
  odd[66] = -std::numeric_limits<float>::infinity();
  const auto spoilt = prepared<Arch, Storage>(odd);
  CHECK(moe::is_nan(moe::impl::header_of(spoilt[0]).scale));
  for (Index k = 0; k < kBlockRows; ++k) CHECK(number_of(spoilt[1], k) == 0);
  const auto tiny = prepared<Arch, Storage>(std::vector<float>(70, 0x0.fffffp-118f));
  CHECK(moe::impl::header_of(tiny[0]).scale == 0);
  CHECK(number_of(tiny[1], 3) == 0);
}

}  // namespace

TEMPLATE_TEST_CASE("rows in 8 bits are within half a step, on every path the same", "[kernel][smoke][arm]",
                   Int8Groups<>, Int4Groups<Float16>, Q4K, Q6K) {
  check_codes<native_arch, TestType>();
  check_codes<reference_arch, TestType>();
  if constexpr (kHasNarrow) check_codes<narrow_arch, TestType>();
}

TEST_CASE("rows in bf16 hold each number's nearest, infinities and NaN included", "[kernel][smoke]") {
  check_bf16<native_arch>();
  check_bf16<reference_arch>();
  if constexpr (kHasNarrow) check_bf16<narrow_arch>();
}

TEST_CASE("groups that are not finite, or all but zero", "[kernel][smoke]") {
  check_odd_groups<native_arch, Int8Groups<>>();
  check_odd_groups<reference_arch, Int8Groups<>>();
  if constexpr (kHasNarrow) check_odd_groups<narrow_arch, Int4Groups<>>();
}

TEST_CASE("rows with one scale are within half a step of it, on every path the same",
          "[kernel][smoke][arm]") {
  check_whole_rows<native_arch>();
  check_whole_rows<reference_arch>();
  if constexpr (kHasNarrow) check_whole_rows<narrow_arch>();
}
