// Which rows each block of a step gets, from the step's routes.
#pragma once

#include <cstdint>

#include "moe/core/check.hpp"
#include "moe/core/input.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/depth/row_block.hpp"
#include "moe/kernel/row.hpp"
#include "moe/plan/route_table.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// What a pair of the table means at a step: which block it visits (-1: none), how much the result weighs,
/// and whether the weight is the pair's own.
template <class Real>
struct Visit {
  Index block = -1;
  Real weight = 1;
  bool own = false;
};

/// The rows of M blocks, one block behind the other, rows of a block ascending.
template <class Real>
class DepthRows {
 public:
  /// Room for `rows` rows of all blocks together, in `segments` segments.
  DepthRows(Arena& arena, Index blocks, Index rows, Index segments)
      : blocks_(blocks),
        segments_(segments),
        begin_(arena.take<Index>(blocks + 1)),
        segment_(arena.take<Index>(checked_product("segments of blocks", blocks, segments + 1))),
        row_(arena.take<std::int32_t>(rows)),
        position_(arena.take<std::int32_t>(rows)),
        key_(arena.take<std::uint64_t>(rows)),
        weight_(arena.take<Real>(rows)),
        pair_(arena.take<Index>(rows)) {}

  /// `visit(p)`: what pair p means.
  template <class F>
  void fill(const RouteTable<Real>& table, const RouterInput<Real>& in, const F& visit) const noexcept {
    Index n = 0;
    for (Index b = 0; b < blocks_; ++b) {
      begin_[b] = n;
      Index* const offset = segment_ + b * (segments_ + 1);
      for (Index s = 0; s < segments_; ++s) {
        offset[s] = n - begin_[b];
        const Index first = in.segments.begin(s), last = in.segments.end(s, table.tokens);
        for (Index t = first; t < last; ++t) {
          for (Index p = table.offsets[t]; p < table.offsets[t + 1]; ++p) {
            const Visit<Real> v = visit(p);
            if (v.block != b) continue;
            row_[n] = static_cast<std::int32_t>(t);
            position_[n] = static_cast<std::int32_t>(t - first);
            key_[n] = in.key(t);
            weight_[n] = v.weight;
            pair_[n++] = v.own ? p : -1;
          }
        }
      }
      offset[segments_] = n - begin_[b];
    }
    begin_[blocks_] = n;
  }

  Index size() const noexcept { return begin_[blocks_]; }
  Index begin(Index block) const noexcept { return begin_[block]; }
  Index count(Index block) const noexcept { return begin_[block + 1] - begin_[block]; }
  Index row(Index i) const noexcept { return row_[i]; }
  Real weight(Index i) const noexcept { return weight_[i]; }
  /// The pair whose weight it is, -1 for a weight of 1 that is nobody's.
  Index pair(Index i) const noexcept { return pair_[i]; }

  BlockCall call(Index block, bool training) const noexcept {
    BlockCall call;
    const Index first = begin_[block];
    call.count = count(block);
    call.row = row_ + first;
    call.position = position_ + first;
    call.key = key_ + first;
    call.segment_offsets = segment_ + block * (segments_ + 1);
    call.segments = segments_;
    call.training = training;
    return call;
  }

  /// Rows of a block, side by side: to [count, D].
  template <Executor X>
  void gather(Index block, const ConstMatrixView<Real>& from, const MatrixView<Real>& to, X& executor) const {
    const Index first = begin_[block];
    executor.parallel_for(count(block), [&](Index i, Index) noexcept {
      moe::copy_row(from.row(row(first + i)), to.row(i), from.cols);
    });
  }
  /// The same, each times its weight.
  template <Executor X>
  void gather_weighted(Index block, const ConstMatrixView<Real>& from, const MatrixView<Real>& to,
                       X& executor) const {
    const Index first = begin_[block];
    executor.parallel_for(count(block), [&](Index i, Index) noexcept {
      moe::scale_row(weight(first + i), from.row(row(first + i)), to.row(i), from.cols);
    });
  }
  /// Rows of a block, added where they came from.
  template <Executor X>
  void scatter(Index block, const ConstMatrixView<Real>& from, const MatrixView<Real>& to,
               X& executor) const {
    const Index first = begin_[block];
    executor.parallel_for(count(block), [&](Index i, Index) noexcept {
      moe::add_row(from.row(i), to.row(row(first + i)), from.cols);
    });
  }
  /// The same times their weights; a row that weighs 0 adds nothing, and leaves the bits as they are.
  template <Executor X>
  void scatter_weighted(Index block, const ConstMatrixView<Real>& from, const MatrixView<Real>& to,
                        X& executor) const {
    const Index first = begin_[block];
    executor.parallel_for(count(block), [&](Index i, Index) noexcept {
      if (weight(first + i) != 0)
        moe::axpy_row(weight(first + i), from.row(i), to.row(row(first + i)), from.cols);
    });
  }

 private:
  Index blocks_, segments_;
  Index* begin_;            // [M + 1]
  Index* segment_;          // [M, segments + 1]
  std::int32_t* row_;       // [P]
  std::int32_t* position_;  // [P]
  std::uint64_t* key_;      // [P]
  Real* weight_;            // [P]
  Index* pair_;             // [P]
};

}  // namespace impl

MOE_NAMESPACE_END
