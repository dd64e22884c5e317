// What routers may be told of a row besides its numbers, made of nothing but the text: every row is a byte.
#pragma once

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "moe/core/input.hpp"
#include "moe/core/types.hpp"

namespace example {

using moe::Index;

/// Columns of T rows in sequences of `length`. Who reads which: the lines of the menu say.
class RouterColumns {
 public:
  static constexpr Index kDevices = 2;

  /// `bytes` [T] in [0, 256), `counts` [256] of the bytes in the whole text; E experts, K of them for a row.
  RouterColumns(std::span<const moe::TokenId> bytes, Index length, std::span<const std::int64_t> counts,
                Index experts, Index k)
      : length_(length), k_(std::min(k, experts)), token_id_(bytes.begin(), bytes.end()) {
    double most = 1;
    for (const std::int64_t n : counts) most = std::max(most, static_cast<double>(n));
    const auto tokens = static_cast<Index>(bytes.size());
    mixing_.assign(bytes.size() * static_cast<std::size_t>(length), 0);
    for (Index t = 0; t < tokens; ++t) {
      const moe::TokenId byte = token_id_[static_cast<std::size_t>(t)];
      task_.push_back(std::isspace(byte) != 0 ? 1 : 0);
      segment_task_.push_back(task_[static_cast<std::size_t>(t - t % length)]);
      device_.push_back(static_cast<std::int32_t>(t / length % kDevices));
      const double share = static_cast<double>(counts[static_cast<std::size_t>(byte)] + 1) / (most + 1);
      rarity_.push_back(static_cast<float>(std::clamp(-std::log2(share) / 8, 1.0 / 8, 1.0)));
      for (Index i = 0; i < k_; ++i) {
        const Index e = (byte + i * (experts / k_)) % experts;
        replay_.push_back(static_cast<moe::ExpertId>(e));
      }
      const Index begin = t - t % length;
      float* const row = mixing_.data() + t * length;
      float sum = 0;
      for (Index j = begin; j <= t; ++j) sum += row[j - begin] = 1 / static_cast<float>(1 + t - j);
      for (Index j = begin; j <= t; ++j) row[j - begin] /= sum;
    }
  }

  /// The task is that of a sequence's first byte, for all of its rows.
  void set_task_by_segment(bool by_segment) { by_segment_ = by_segment; }

  /// In the columns of a call, which borrow them.
  void show(moe::InputColumns<float>& in) const {
    const auto tokens = static_cast<Index>(token_id_.size());
    in.token_id = token_id_;                                                      // the byte
    in.task = by_segment_ ? segment_task_ : task_;                                // 1 for white space
    in.device = device_;                                                          // whole sequences by turns
    in.features = moe::ConstMatrixView<float>(rarity_.data(), tokens, 1);         // how rare the byte is
    in.mixing = moe::ConstMatrixView<float>(mixing_.data(), tokens, length_);     // near bytes before it
    in.replay = moe::ConstMatrixView<moe::ExpertId>(replay_.data(), tokens, k_);  // experts by byte
  }

 private:
  Index length_, k_;
  std::vector<moe::TokenId> token_id_;      // [T]
  std::vector<std::int32_t> task_;          // [T]
  std::vector<std::int32_t> segment_task_;  // [T]
  bool by_segment_ = false;
  std::vector<std::int32_t> device_;   // [T]
  std::vector<float> rarity_;          // [T]
  std::vector<float> mixing_;          // [T, L]
  std::vector<moe::ExpertId> replay_;  // [T, K]
};

}  // namespace example
