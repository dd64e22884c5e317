// One call of a router made at run time, and its route copied out: RouterCall holds a call, random_call draws
// one, Routed is a table that outlives its memory. All of it is instantiated once, in router_laws.cpp.
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "moe/core/buffer.hpp"
#include "moe/core/input.hpp"
#include "moe/core/workspace.hpp"
#include "moe/plan/route_table.hpp"
#include "support/columns.hpp"
#include "support/same_bits.hpp"

namespace test {

using moe::ExpertId;
using moe::Index;

/// Storage of one call. Rows have keys of their own, so that a row is the same one in any batch.
template <class Real>
struct RouterCall {
  Index tokens = 0;
  Index width = 0;
  std::vector<Real> x;             // [T, D]
  std::vector<std::uint64_t> key;  // [T]
  moe::Buffer<bool> valid;         // [T] or empty
  std::vector<Real> mask;          // [1 or, if mask_per_row, T, N] or empty
  bool mask_per_row = false;
  std::vector<moe::TokenId> token_id;  // [T] or empty
  std::vector<Index> segments;         // [S + 1] or empty
  std::vector<double> outside_counts;
  Columns<Real> columns;  // the others
  moe::CallOptions options{};
  bool training = false;
  std::uint64_t seed = 7;
  std::uint64_t step = 3;

  Real* row(Index t) { return x.data() + t * width; }

  moe::RouterInput<Real> input() const {
    moe::RouterInput<Real> in;
    if (tokens > 0 && width > 0) in.x = moe::ConstMatrixView<Real>(x.data(), tokens, width);
    in.x.rows = tokens;
    in.x.cols = in.x.stride = width;
    if (!segments.empty()) in.segments = moe::Segments(std::span<const Index>(segments));
    in.valid = {valid.data(), static_cast<std::size_t>(valid.size())};
    in.row_key = key;
    in.token_id = token_id;
    if (!mask.empty()) {
      const Index rows = mask_rows();
      in.logit_mask = moe::ConstMatrixView<Real>(mask.data(), rows, static_cast<Index>(mask.size()) / rows);
    }
    in.outside_counts = outside_counts;
    columns.show(in, tokens);
    in.options = options;
    in.training = training;
    in.draws = moe::DrawKey{seed, step};
    return in;
  }

  moe::CallShape shape() const {
    return {tokens, segments.empty() ? Index{1} : static_cast<Index>(segments.size()) - 1, options};
  }

  Index mask_rows() const { return mask_per_row ? tokens : 1; }

  /// The call with these rows only, in this order; without segments.
  RouterCall subset(const std::vector<Index>& rows) const {
    RouterCall part = *this;
    part.tokens = static_cast<Index>(rows.size());
    part.segments.clear();
    part.columns = columns.rows(rows, tokens);
    part.x.clear();
    part.key.clear();
    part.token_id.clear();
    part.valid = moe::Buffer<bool>(valid.empty() ? 0 : part.tokens);
    if (mask_per_row) part.mask.clear();
    const Index outputs = mask_per_row && tokens > 0 ? static_cast<Index>(mask.size()) / tokens : 0;
    for (Index i = 0; i < part.tokens; ++i) {
      const Index t = rows[static_cast<std::size_t>(i)];
      part.x.insert(part.x.end(), x.begin() + t * width, x.begin() + (t + 1) * width);
      part.key.push_back(key[static_cast<std::size_t>(t)]);
      if (!token_id.empty()) part.token_id.push_back(token_id[static_cast<std::size_t>(t)]);
      if (!valid.empty()) part.valid[i] = valid[t];
      part.mask.insert(part.mask.end(), mask.begin() + t * outputs, mask.begin() + (t + 1) * outputs);
    }
    return part;
  }
};

/// x in U(-1, 1), keys and token ids far from the positions.
template <class Real>
RouterCall<Real> random_call(Index tokens, Index width, std::uint64_t seed);

/// Masks about 7 outputs in 10, never all of a row.
template <class Real>
void mask_some(RouterCall<Real>& call, Index outputs, bool per_row);

/// Targets [T, outputs], each row a distribution, keyed by position.
template <class Real>
void add_targets(RouterCall<Real>& call, Index outputs);

/// Three workers, last index first: shows results that depend on the order or on a worker's scratch.
struct BackwardsExecutor {
  Index concurrency() const noexcept { return 3; }
  template <class F>
  void parallel_for(Index n, F&& f) const noexcept {
    for (Index i = n - 1; i >= 0; --i) f(i, i % 3);
  }
};

/// A route table copied out of its memory.
template <class Real>
struct Routed {
  std::vector<Index> offsets;
  std::vector<ExpertId> expert;
  std::vector<Real> weight;
  std::vector<bool> spoiled;
  std::vector<double> losses;
  std::vector<std::string> loss_names;
  Index elided = 0;

  Index tokens() const { return static_cast<Index>(offsets.size()) - 1; }
  Index pairs() const { return static_cast<Index>(expert.size()); }
  double loss() const {
    double sum = 0;
    for (const double value : losses) sum += value;
    return sum;
  }
  std::vector<ExpertId> experts_of(Index t) const {
    return {expert.begin() + offsets[static_cast<std::size_t>(t)],
            expert.begin() + offsets[static_cast<std::size_t>(t + 1)]};
  }
  std::vector<Real> weights_of(Index t) const {
    return {weight.begin() + offsets[static_cast<std::size_t>(t)],
            weight.begin() + offsets[static_cast<std::size_t>(t + 1)]};
  }
  /// Weight of expert e for token t, 0 where it is not routed.
  Real weight_of(Index t, Index e) const {
    for (Index p = offsets[static_cast<std::size_t>(t)]; p < offsets[static_cast<std::size_t>(t + 1)]; ++p) {
      if (expert[static_cast<std::size_t>(p)] == e) return weight[static_cast<std::size_t>(p)];
    }
    return 0;
  }
};

template <class Real>
bool same_pairs(const Routed<Real>& a, const Routed<Real>& b) {
  return a.offsets == b.offsets && a.expert == b.expert && same_bits(a.weight, b.weight) &&
         a.spoiled == b.spoiled && a.elided == b.elided;
}
template <class Real>
bool same_route(const Routed<Real>& a, const Routed<Real>& b) {
  return same_pairs(a, b) && same_bits(a.losses, b.losses) && a.loss_names == b.loss_names;
}

/// Memory of exactly the size that `measure(arena)` asks for, filled with NaN patterns.
class MeasuredMemory {
 public:
  template <class Measure>
  explicit MeasuredMemory(Measure&& measure) {
    moe::Arena measuring;
    measure(measuring);
    block_.assign(static_cast<std::size_t>(measuring.bytes()), std::byte{0xFF});
  }
  moe::Arena arena() { return {block_.data(), static_cast<Index>(block_.size())}; }

 private:
  std::vector<std::byte> block_;
};

/// A table with memory for one call.
template <class Real>
class OwnedTable {
 public:
  template <class R>
  OwnedTable(const R& router, const moe::CallShape& shape)
      : OwnedTable(shape.tokens, router.experts(), router.max_pairs(shape)) {}
  OwnedTable(Index tokens, Index experts, Index pairs)
      : memory_([=](moe::Arena& a) { moe::RouteTable<Real>::carve(a, tokens, experts, pairs); }) {
    moe::Arena arena = memory_.arena();
    table_ = moe::RouteTable<Real>::carve(arena, tokens, experts, pairs);
  }
  moe::RouteTable<Real>& operator*() { return table_; }

  Routed<Real> copy() const {
    Routed<Real> r;
    r.offsets.assign(table_.offsets, table_.offsets + table_.tokens + 1);
    r.expert.assign(table_.expert, table_.expert + table_.pairs());
    r.weight.assign(table_.weight, table_.weight + table_.pairs());
    r.spoiled.assign(table_.spoiled, table_.spoiled + table_.tokens);
    for (const auto& entry : table_.losses) {
      r.losses.push_back(entry.value);
      r.loss_names.emplace_back(entry.name);
    }
    r.elided = table_.elided;
    return r;
  }

 private:
  MeasuredMemory memory_;
  moe::RouteTable<Real> table_;
};

/// Row t of `whole` and row i of `part` are the same pairs, bit for bit.
template <class Real>
bool same_row(const Routed<Real>& whole, Index t, const Routed<Real>& part, Index i) {
  return whole.experts_of(t) == part.experts_of(i) && same_bits(whole.weights_of(t), part.weights_of(i));
}

/// The column `carry` [T, width] in U(-1, 1), keyed by position; as it was for a width of 0.
template <class Real>
void add_carry(RouterCall<Real>& call, Index width);

#define MOE_TEST_ROUTER_CALL(ext, Real)                                         \
  ext template struct RouterCall<Real>;                                         \
  ext template struct Routed<Real>;                                             \
  ext template class OwnedTable<Real>;                                          \
  ext template RouterCall<Real> random_call<Real>(Index, Index, std::uint64_t); \
  ext template void mask_some<Real>(RouterCall<Real>&, Index, bool);            \
  ext template void add_targets<Real>(RouterCall<Real>&, Index);                \
  ext template void add_carry<Real>(RouterCall<Real>&, Index);
MOE_TEST_ROUTER_CALL(extern, float)
MOE_TEST_ROUTER_CALL(extern, double)

}  // namespace test
