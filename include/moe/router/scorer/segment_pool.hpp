// One route for a whole segment: the scorer reads the mean of its rows. Union of Experts, Yang et al.
// 2503.02495, whose code flattens sequences of one fixed length instead.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/scorer/inner.hpp"

MOE_NAMESPACE_BEGIN

/// Inner's logits of the mean of a segment's rows, the same for all of them. Rows that take no part, or are
/// not finite, are not in the mean. Inner sees a row per segment, with the key of the segment's first row and
/// no other column. Parameters are Inner's.
template <Scorer Inner>
class SegmentPool : public impl::InnerScorer<SegmentPool<Inner>, Inner> {
  using Base = impl::InnerScorer<SegmentPool<Inner>, Inner>;

 public:
  using Base::inner;
  using Base::outputs;
  using Real = typename Inner::Real;
  struct Tape {
    typename Inner::Tape inner;
    Buffer<Real> mean;     // [S, D]
    Buffer<Index> counts;  // [S] rows in the mean
    Buffer<bool> open;     // [T] rows in a mean
  };
  using Gradients = typename Inner::Gradients;

  /// Throws config_error for a noisy Inner, or one that carries: a segment's row has no row below.
  explicit SegmentPool(Inner scorer) : Base(std::move(scorer)) {
    if (impl::is_noisy(inner()))
      fail<config_error>("segment pool: expected a scorer without noise, got one with");
    if (impl::carry_width_of(inner()) > 0)
      fail<config_error>("segment pool: expected a scorer that hands nothing on, got one that carries");
  }

  static constexpr Coupling coupling(bool training) noexcept {
    return weakest(Coupling::per_segment, impl::coupling_of<Inner>(training));
  }
  void initialise(std::uint64_t seed) { inner().initialise(seed); }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    f("rows", "segment_mean");
    impl::visit_names_of(role, inner(), f);
  }

  // A segment has a row at least, or counts for nothing: there are no more of them than rows.
  void measure(Arena& arena, Index tokens, Index concurrency) const {
    take_means(arena, tokens), take_segments(arena, tokens), arena.take<bool>(tokens);
    arena.take<Real>(checked_product("pooled logits", tokens, outputs()));
    inner().measure(arena, tokens, concurrency);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    take_means(arena, tokens), take_segments(arena, tokens), arena.take<std::int32_t>(tokens);
    arena.take<Real>(checked_product("pooled logits", tokens, outputs()));
    inner().measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    const Index tokens = in.tokens(), width = in.x.cols, n = outputs();
    const Pooled pooled = segments(in, take_segments(arena, tokens));
    Real* const means = tape == nullptr ? take_means(arena, tokens)
                                        : tape->mean.resize(checked_product("tape", pooled.count, width));
    bool* const open = tape == nullptr ? arena.take<bool>(tokens) : tape->open.resize(tokens);
    const MatrixView<Real> mean(means, pooled.count, width);
    executor.parallel_for(pooled.count, [&](Index s, Index) noexcept {
      Index rows = 0;
      fill_row(Real{0}, mean.row(s), width);
      for (Index t = pooled.begin[s]; t < pooled.begin[s + 1]; ++t) {
        open[t] = in.takes_part(t) && !impl::mask_spoils(in, t) && all_finite(in.x.row(t), width);
        if (open[t]) add_row(in.x.row(t), mean.row(s), width), ++rows;
      }
      if (rows > 0) scale_row(1 / static_cast<Real>(rows), mean.row(s), mean.row(s), width);
      pooled.rows[s] = rows;
    });
    if (tape != nullptr) tape->counts.copy_from(pooled.rows, pooled.count);
    const MatrixView<Real> logit(arena.take<Real>(checked_product("pooled logits", pooled.count, n)),
                                 pooled.count, n);
    inner().logits(inner_input(in, mean, pooled), Logits<Real>{.value = logit},
                   tape == nullptr ? nullptr : &tape->inner, arena, executor);
    executor.parallel_for(pooled.count, [&](Index s, Index) noexcept {
      for (Index t = pooled.begin[s]; t < pooled.begin[s + 1]; ++t) {
        if (open[t]) {
          copy_row(logit.row(s), out.value.row(t), n);
        } else {
          const bool by_mask = impl::mask_spoils(in, t);
          fill_row(by_mask ? Real{0} : std::numeric_limits<Real>::quiet_NaN(), out.value.row(t), n);
        }
      }
    });
  }

  /// The pooled row's gradient is the sum of its rows', ascending; each row gets its share of it back.
  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    impl::check_gradients_of(*this, gradients);
    const Index tokens = in.tokens(), width = in.x.cols, n = outputs();
    const Pooled pooled = segments(in, take_segments(arena, tokens));
    const ConstMatrixView<Real> mean(impl::taped("segment pool", tape.mean, pooled.count * width),
                                     pooled.count, width);
    const Index* const counts = impl::taped("segment pool", tape.counts, pooled.count);
    const bool* const open = impl::taped("segment pool", tape.open, tokens);
    const MatrixView<Real> dmean(take_means(arena, pooled.count), pooled.count, width);
    std::int32_t* const listed = arena.take<std::int32_t>(pooled.count);
    const MatrixView<Real> d(arena.take<Real>(checked_product("pooled logits", pooled.count, n)),
                             pooled.count, n);
    for (Index s = 0; s < pooled.count; ++s) {
      fill_row(Real{0}, d.row(s), n);
      fill_row(Real{0}, dmean.row(s), width);
    }
    Index s = 0, live = 0;
    const Index count = dlogits.rows == nullptr ? tokens : dlogits.row_count;
    for (Index a = 0; a < count; ++a) {
      const Index t = dlogits.rows == nullptr ? a : Index{dlogits.rows[a]};
      while (t >= pooled.begin[s + 1]) ++s;
      if (live == 0 || listed[live - 1] != s) listed[live++] = static_cast<std::int32_t>(s);
      add_row(dlogits.value.row(t), d.row(s), n);
    }
    for (s = 0; s < pooled.count; ++s) pooled.rows[s] = counts[s];
    inner().backward(inner_input(in, mean, pooled), tape.inner,
                     Logits<Real>{.value = d, .rows = listed, .row_count = live},
                     dx ? dmean : MatrixView<Real>{}, gradients, arena, executor);
    executor.parallel_for(dx ? pooled.count : 0, [&](Index i, Index) noexcept {
      for (Index t = pooled.begin[i]; t < pooled.begin[i + 1]; ++t) {
        if (open[t]) axpy_row(1 / static_cast<Real>(counts[i]), dmean.row(i), dx.row(t), width);
      }
    });
  }

 private:
  /// The segments that have rows.
  struct Pooled {
    Index count = 0;
    Index* begin;        // [count + 1]
    Index* rows;         // [count] in the mean
    std::uint64_t* key;  // [count]
    bool* valid;         // [count]
  };

  Real* take_means(Arena& arena, Index segments) const {
    return arena.take<Real>(checked_product("means of segments", segments, inner().width()));
  }
  static Pooled take_segments(Arena& arena, Index tokens) {
    return {0, arena.take<Index>(tokens + 1), arena.take<Index>(tokens), arena.take<std::uint64_t>(tokens),
            arena.take<bool>(tokens)};
  }
  static Pooled segments(const RouterInput<Real>& in, Pooled pooled) noexcept {
    const Index tokens = in.tokens();
    pooled.begin[0] = 0;
    for (Index s = 0; s < in.segments.count(tokens); ++s) {
      const Index begin = in.segments.begin(s), end = in.segments.end(s, tokens);
      if (begin == end) continue;
      pooled.key[pooled.count] = in.key(begin);
      pooled.begin[++pooled.count] = end;
    }
    return pooled;
  }
  RouterInput<Real> inner_input(const RouterInput<Real>& in, const ConstMatrixView<Real>& mean,
                                const Pooled& pooled) const noexcept {
    for (Index s = 0; s < pooled.count; ++s) pooled.valid[s] = pooled.rows[s] > 0;
    RouterInput<Real> pool;
    pool.x = mean;
    pool.valid = {pooled.valid, static_cast<std::size_t>(pooled.count)};
    pool.row_key = {pooled.key, static_cast<std::size_t>(pooled.count)};
    pool.options = in.options;
    pool.training = in.training;
    pool.draws = in.draws;
    return pool;
  }
};

MOE_NAMESPACE_END
