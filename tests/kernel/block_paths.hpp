// What tests of low-precision kernels run on: every path of this translation unit, and rows by hand.
#pragma once

#include <cstring>
#include <vector>

#include "moe/kernel/storage_block.hpp"
#include "support/products.hpp"

namespace test {

using moe::BFloat16;
using moe::Float16;
using moe::Int4Groups;
using moe::Int8Channels;
using moe::Int8Groups;
using moe::kBlockRows;
using moe::native_arch;
using moe::Q4K;
using moe::Q6K;
using moe::reference_arch;
using moe::RowGroup;
using moe::StorageBlock;

/// Vectors of half the width where the native ones are of 512 bits: with AVX512VL the instructions of both
/// widths exist.
#if defined(__AVX512F__)
using narrow_arch = xsimd::fma3<xsimd::avx2>;
static_assert(moe::SimdArch<narrow_arch>);
#else
using narrow_arch = native_arch;
#endif
inline constexpr bool kHasNarrow = !std::is_same_v<narrow_arch, native_arch>;

// Groups of rows, read alike: number k before the scale, the scale, the start in units of 1.
inline float number_of(const moe::impl::FloatGroup& group, Index k) {
  return group.x[k];
}
inline float number_of(const moe::impl::Bf16Group& group, Index k) {
  return group.x[k].to_float();
}
inline float number_of(const moe::impl::CodeGroup& group, Index k) {
  return group.codes[k];
}
inline float number_of(const moe::impl::FloatCodeGroup& group, Index k) {
  return group.codes[k];
}

inline float number_of(const moe::impl::HalvedCodeGroup& group, Index k) {
  return group.codes[k];
}
inline float number_of(const moe::impl::FloatHalvedCodeGroup& group, Index k) {
  return group.codes[k];
}
inline float number_of(const moe::impl::ChannelCodes& cell, Index k) {
  return cell.codes[k];
}
inline float number_of(const moe::impl::FloatChannelCodes& cell, Index k) {
  return cell.codes[k];
}

/// The cells of one row.
template <class Arch, class Storage>
std::vector<RowGroup<Arch, Storage>> prepared(const std::vector<float>& x) {
  const auto count = static_cast<Index>(x.size());
  std::vector<RowGroup<Arch, Storage>> groups(static_cast<std::size_t>(moe::row_cells<Storage>(count)));
  moe::prepare_row<Arch, Storage>(x.data(), count, groups.data());
  return groups;
}

}  // namespace test
