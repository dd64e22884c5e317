// Storage for the optional columns of a call, filled at random: what walks moe::InputColumns::each.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <type_traits>
#include <vector>

#include "moe/core/input.hpp"
#include "moe/core/random.hpp"

namespace test {

using moe::Index;

/// By name, [T] or [T, any width]; columns without an entry are not given.
template <class Real>
struct Columns {
  std::map<std::string, std::vector<std::int32_t>> ints;
  std::map<std::string, std::vector<Real>> reals;
  std::map<std::string, std::vector<moe::ExpertId>> ids;

  /// All columns of small integers and of matrices that are no routing of their own (mask, target, replay).
  static Columns random(Index tokens, std::uint64_t seed) {
    Columns all;
    const moe::KeyedRandom draw(seed, 0, moe::DrawStream::user);
    std::uint32_t lane = 1u << 22;
    moe::InputColumns<Real>::each([&](const char* name, auto member, moe::ColumnSize) {
      using Column = std::remove_cvref_t<decltype(std::declval<moe::InputColumns<Real>&>().*member)>;
      const std::string of(name);
      ++lane;
      for (Index t = 0; t < tokens; ++t) {
        const auto row = static_cast<std::uint64_t>(t);
        if constexpr (std::is_same_v<Column, moe::Column<std::int32_t>>) {
          if (of != "token_id") all.ints[of].push_back(static_cast<std::int32_t>(draw.bits(row, lane) % 4));
        }
        if constexpr (std::is_same_v<Column, moe::ConstMatrixView<Real>>) {
          if (of == "logit_mask" || of == "target") continue;
          for (std::uint32_t j = 0; j < 3; ++j) {
            all.reals[of].push_back(static_cast<Real>(2 * draw.uniform(row, lane + (j << 8)) - 1));
          }
        }
      }
    });
    return all;
  }

  /// Views of them, where there are any, in a call of `tokens` rows.
  void show(moe::InputColumns<Real>& in, Index tokens) const {
    moe::InputColumns<Real>::each([&](const char* name, auto member, moe::ColumnSize) {
      using Column = std::remove_cvref_t<decltype(in.*member)>;
      if constexpr (std::is_same_v<Column, moe::Column<std::int32_t>>) {
        if (const auto found = ints.find(name); found != ints.end()) in.*member = found->second;
      } else if constexpr (std::is_same_v<Column, moe::ConstMatrixView<Real>>) {
        if (const auto found = reals.find(name); found != reals.end() && tokens > 0) {
          in.*member = {found->second.data(), tokens, static_cast<Index>(found->second.size()) / tokens};
        }
      } else if constexpr (std::is_same_v<Column, moe::ConstMatrixView<moe::ExpertId>>) {
        if (const auto found = ids.find(name); found != ids.end() && tokens > 0) {
          in.*member = {found->second.data(), tokens, static_cast<Index>(found->second.size()) / tokens};
        }
      }
    });
  }

  /// The columns of these rows only, of `tokens`.
  Columns rows(const std::vector<Index>& of, Index tokens) const {
    Columns part;
    const auto pick = [&](const auto& from, auto& to) {
      for (const auto& [name, values] : from) {
        const Index width = tokens == 0 ? 0 : static_cast<Index>(values.size()) / tokens;
        auto& picked = to[name];
        for (const Index t : of)
          picked.insert(picked.end(), values.begin() + t * width, values.begin() + (t + 1) * width);
      }
    };
    pick(ints, part.ints);
    pick(reals, part.reals);
    pick(ids, part.ids);
    return part;
  }
};

}  // namespace test
