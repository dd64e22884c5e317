// One route for a whole segment, from the means of its windows: Dr.LLM, Heakl et al. 2510.12773.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/scorer/concept.hpp"
#include "moe/router/scorer/inner.hpp"
#include "moe/router/scorer/segment_pool.hpp"

MOE_NAMESPACE_BEGIN

/// A segment of n rows is cut into windows of round up of n / W rows, the last one shorter; Inner reads the
/// mean of each window (SegmentPool's), and the mean of its logits over the windows that have rows is that of
/// every row of the segment. Parameters are Inner's.
template <Scorer Inner>
class WindowPool : public impl::InnerScorer<WindowPool<Inner>, SegmentPool<Inner>> {
  using Base = impl::InnerScorer<WindowPool<Inner>, SegmentPool<Inner>>;

 public:
  using Base::outputs;
  using Real = typename Inner::Real;
  using Tape = typename SegmentPool<Inner>::Tape;
  using Gradients = typename Inner::Gradients;

  /// Throws config_error for windows < 1 and a noisy Inner.
  WindowPool(Inner scorer, Index windows) : Base(SegmentPool<Inner>(std::move(scorer))), windows_(windows) {
    require_range("windows of a segment", windows, 1, INT32_MAX);
  }

  Index windows() const noexcept { return windows_; }
  void initialise(std::uint64_t seed) { pool().initialise(seed); }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    f("rows", "window_means");
    impl::visit_names_of(role, pool().inner(), f);
  }

  void measure(Arena& arena, Index tokens, Index concurrency) const {
    take(arena, tokens);
    pool().measure(arena, tokens, concurrency);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    take(arena, tokens);
    arena.take<std::int32_t>(tokens);
    arena.take<Real>(checked_product("windowed logits", tokens, outputs()));
    pool().measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape* tape, Arena& arena,
              X& executor) const {
    Index* const offsets = take(arena, in.tokens());
    pool().logits(windowed(in, offsets), out, tape, arena, executor);
    const Index n = outputs();
    for (Index s = 0; s < in.segments.count(in.tokens()); ++s) {
      const Index first = in.segments.begin(s), last = in.segments.end(s, in.tokens());
      Index means = 0, sum = -1;  // the sum is formed in the first row that has logits
      each_window(first, last, [&](Index begin, Index end) {
        const Index t = first_open(in, begin, end);
        if (t < 0) return;
        ++means;
        if (sum < 0) sum = t;
        if (t != sum) add_row(out.value.row(t), out.value.row(sum), n);
      });
      if (sum < 0) continue;
      scale_row(1 / static_cast<Real>(means), out.value.row(sum), out.value.row(sum), n);
      for (Index t = first; t < last; ++t) {
        if (t != sum && open(in, t)) copy_row(out.value.row(sum), out.value.row(t), n);
      }
    }
  }

  /// The gradient of a segment's logits is the sum of its rows'; each window gets an equal part.
  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape& tape, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    const Index tokens = in.tokens(), n = outputs();
    Index* const offsets = take(arena, tokens);
    std::int32_t* const rows = arena.take<std::int32_t>(tokens);
    const MatrixView<Real> d(arena.take<Real>(checked_product("windowed logits", tokens, n)), tokens, n);
    const Index count = dlogits.rows == nullptr ? tokens : dlogits.row_count;
    Index listed = 0, a = 0;
    for (Index s = 0; s < in.segments.count(tokens); ++s) {
      const Index first = in.segments.begin(s), last = in.segments.end(s, tokens);
      const Index mine = listed;
      each_window(first, last, [&](Index begin, Index end) {
        const Index t = first_open(in, begin, end);
        if (t >= 0) rows[listed++] = static_cast<std::int32_t>(t);
      });
      if (listed == mine) continue;
      Real* const sum = d.row(Index{rows[mine]});
      fill_row(Real{0}, sum, n);
      for (; a < count; ++a) {
        const Index t = dlogits.rows == nullptr ? a : Index{dlogits.rows[a]};
        if (t >= last) break;
        if (open(in, t)) add_row(dlogits.value.row(t), sum, n);
      }
      scale_row(1 / static_cast<Real>(listed - mine), sum, sum, n);
      for (Index i = mine + 1; i < listed; ++i) copy_row(sum, d.row(Index{rows[i]}), n);
    }
    Logits<Real> own{.value = d};
    own.rows = rows;
    own.row_count = listed;
    pool().backward(windowed(in, offsets), tape, own, dx, gradients, arena, executor);
  }

 private:
  const SegmentPool<Inner>& pool() const noexcept { return Base::inner(); }
  SegmentPool<Inner>& pool() noexcept { return Base::inner(); }

  /// A window has a row at least: there are no more of them than rows.
  static Index* take(Arena& arena, Index tokens) { return arena.take<Index>(tokens + 1); }

  template <class F>
  void each_window(Index first, Index last, const F& f) const {
    const Index size = (std::max)(Index{1}, ceil_div(last - first, windows_));
    for (Index begin = first; begin < last; begin += size) f(begin, (std::min)(begin + size, last));
  }
  static bool open(const RouterInput<Real>& in, Index t) noexcept {
    return in.takes_part(t) && !impl::mask_spoils(in, t) && all_finite(in.x.row(t), in.x.cols);
  }
  static Index first_open(const RouterInput<Real>& in, Index begin, Index end) noexcept {
    for (Index t = begin; t < end; ++t) {
      if (open(in, t)) return t;
    }
    return -1;
  }
  RouterInput<Real> windowed(const RouterInput<Real>& in, Index* offsets) const {
    const Index tokens = in.tokens();
    Index count = 0;
    offsets[0] = 0;
    for (Index s = 0; s < in.segments.count(tokens); ++s) {
      each_window(in.segments.begin(s), in.segments.end(s, tokens),
                  [&](Index, Index end) { offsets[++count] = end; });
    }
    RouterInput<Real> of_windows = in;
    of_windows.segments = Segments(Column<Index>(offsets, static_cast<std::size_t>(count + 1)));
    return of_windows;
  }

  Index windows_;
};

MOE_NAMESPACE_END
