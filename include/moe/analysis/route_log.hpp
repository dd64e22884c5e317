// The routes of a layer, kept row by row to be replayed: routing replay, R3, Ma et al. 2510.11370.
#pragma once

#include <algorithm>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/view.hpp"
#include "moe/layer/call/observer.hpp"
#include "moe/plan/route_table.hpp"

MOE_NAMESPACE_BEGIN

/// What one layer chose, of any number of calls one behind the other: the prompt, then a row for every token
/// that was generated. A model has a log for every layer (and request). Choices are those of the router,
/// first one first: a pair that a capacity dropped is recorded all the same, for it is dropped again.
class RouteLog {
 public:
  Index tokens() const noexcept { return tokens_; }

  /// Appends the rows of a call. Throws config_error for a call that chose null experts: their pairs are not
  /// in the table, and weights that were normalised with them would be others.
  template <class Real>
  void record(const RouteTable<Real>& table) {
    record(table, 0, table.tokens);
  }
  /// Rows [begin, end) alone: those of one request. Throws shape_error for rows that are not there.
  template <class Real>
  void record(const RouteTable<Real>& table, Index begin, Index end) {
    if (begin < 0 || begin > end || end > table.tokens) {
      fail<shape_error>("route log: expected rows within [0, ", table.tokens, "), got [", begin, ", ", end,
                        ")");
    }
    if (table.elided > 0) {
      fail<config_error>("route log: expected a call without null experts, got ", table.elided,
                         " choices of them");
    }
    Index most = 1;
    for (Index t = begin; t < end; ++t) most = (std::max)(most, table.count(t));
    make_room(tokens_ + end - begin, most);
    for (Index t = begin; t < end; ++t) {
      append(table.expert + table.offsets[t], table.count(t));
    }
  }
  /// Rows that were recorded before and kept elsewhere, as a column `replay`.
  void record(const ConstMatrixView<ExpertId>& ids) {
    make_room(tokens_ + ids.rows, (std::max)(ids.cols, Index{1}));
    for (Index t = 0; t < ids.rows; ++t) {
      Index count = 0;
      while (count < ids.cols && ids(t, count) >= 0) ++count;
      append(ids.row(t), count);
    }
  }

  /// The column `replay` [T, K] of a call of these rows, as long as nothing more is recorded. Throws
  /// shape_error unless just so many rows were recorded.
  ConstMatrixView<ExpertId> replay(Index tokens) const {
    require_extent("route log", "rows", tokens, tokens_);
    return {ids_.data(), tokens_, width_};
  }

  void clear() noexcept { tokens_ = 0; }

 private:
  /// For `tokens` rows of `width` entries and more; what is there moves along.
  void make_room(Index tokens, Index width) {
    width = (std::max)(width, width_);
    const Index size = checked_product("route log", tokens, width);
    if (width == width_ && size <= ids_.size()) return;
    Buffer<ExpertId> larger;
    larger.assign((std::max)(size, 2 * tokens_ * width), ExpertId{-1});
    for (Index t = 0; t < tokens_; ++t) {
      std::copy_n(ids_.data() + t * width_, width_, larger.data() + t * width);
    }
    ids_.swap(larger);
    width_ = width;
  }
  void append(const ExpertId* ids, Index count) noexcept {
    ExpertId* const row = ids_.data() + tokens_++ * width_;
    std::fill(std::copy_n(ids, count, row), row + width_, ExpertId{-1});
  }

  Index tokens_ = 0;
  Index width_ = 1;
  Buffer<ExpertId> ids_;  // [tokens and room for more, width], -1 behind the last of a row
};

/// Set as LayerOutput::observer, appends every call of a layer to a log.
template <class Real>
class RouteRecorder final : public Observer<Real> {
 public:
  explicit RouteRecorder(RouteLog& log) noexcept : log_(&log) {}
  void see(const CallView<Real>& call) override { log_->record(call.table); }

 private:
  RouteLog* log_;
};

MOE_NAMESPACE_END
