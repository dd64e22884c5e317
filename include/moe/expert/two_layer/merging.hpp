// The parameters of a bank's experts summed with weights, on all workers: what merging them is, and its
// backward. Each kind of parameters is a flat range an expert, padding included (0 stays 0), which is cut
// into stretches; a stretch is summed by one worker, expert after expert, while the sum stays in its cache.
#pragma once

#include <algorithm>

#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/expert/two_layer/parameters.hpp"
#include "moe/kernel/prefetch.hpp"
#include "moe/kernel/row.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// Which head a number of a flat range belongs to, in runs of numbers of one head.
struct HeadRuns {
  Index heads = 1;
  Index run = 0;      // if not 0, heads take turns, `run` numbers each: rows of panels [rows][kPanel]
  Index panel = 0;    // else numbers of a panel, and
  Index columns = 0;  // columns of a head

  struct Run {
    Index head, end;
  };
  /// The run at `position`; kWidth columns are a panel's.
  template <Index kWidth>
  Run at(Index position) const noexcept {
    if (run != 0) return {position / run % heads, (position / run + 1) * run};
    const Index first = position / panel * kWidth, lane = position % kWidth;
    const auto head_of = [&](Index column) noexcept { return (std::min)(column / columns, heads - 1); };
    const Index head = head_of(first + lane);
    if (head_of(first) == head_of(first + kWidth - 1)) return {head, (position / panel + 1) * panel};
    const Index end = head == heads - 1 ? kWidth : (std::min)(kWidth, (head + 1) * columns - first);
    return {head, position - lane + end};
  }
};

}  // namespace impl

/// Sums over the experts `of`, whose parameters come in `heads` groups: columns of the input in the first
/// layer and of the output in the second, an equal share each (the biases of the first layer have no such
/// share: none with several heads).
template <class Real>
class TwoLayerMerge {
 public:
  TwoLayerMerge(const TwoLayerWeights<const Real>& of, Index width, Index heads) noexcept
      : of_(of), heads_(heads) {
    const Index panel = kPanel<Real>;
    add(of.first.data, of.first.pitch, {heads, width / heads * panel, 0, 0});
    add(of.second.data, of.second.pitch, {heads, 0, of.second.rows * panel, width / heads});
    add(of.first_biases, of.first_pitch, {1, of.first_pitch, 0, 0});
    add(of.second_biases, of.second_pitch, {heads, 0, panel, width / heads});
  }

  /// Stretches of all ranges: tasks.
  Index stretches() const noexcept {
    Index count = 0;
    for (Index k = 0; k < kinds_; ++k) count += ceil_div(kind_[k].count, kStretch);
    return count;
  }

  /// one = sum over e of p[head, e] theta_e.
  template <Executor X>
  void forward(const Real* p, const TwoLayerWeights<Real>& one, X& executor) const noexcept {
    executor.parallel_for(stretches(), [&](Index task, Index) noexcept {
      each_run(task, [&](Index k, Index head, Index begin, Index count) noexcept {
        Real* const to = range(one, k) + begin;
        const Real* const weight = p + head * of_.experts;
        fill_row(Real{0}, to, count);
        Index e = next(weight, -1);
        while (e < of_.experts) {
          const Index after = next(weight, e), pitch = kind_[k].count;
          const Real* const from = kind_[k].data + e * pitch + begin;
          const Real* const ahead = after < of_.experts ? from + (after - e) * pitch : nullptr;
          each_block(count, [&](Index at, Index n) noexcept {
            fetch(ahead, at, n);
            axpy_row(weight[e], from + at, to + at, n);
          });
          e = after;
        }
      });
    });
  }

  /// one = 0.
  template <Executor X>
  void clear(const TwoLayerWeights<Real>& one, X& executor) const noexcept {
    executor.parallel_for(stretches(), [&](Index task, Index) noexcept {
      each_run(task, [&](Index k, Index, Index begin, Index count) noexcept {
        fill_row(Real{0}, range(one, k) + begin, count);
      });
    });
  }

  double* take_partial(Arena& arena) const {
    return arena.take<double>(checked_product("partial sums of a merge", stretches(), heads_, of_.experts));
  }
  /// dp[head, e] = <done, theta_e>, each stretch's part in `partial`, added up ascending; to_e += p[head, e]
  /// done (unless `to` has no matrices).
  template <Executor X>
  void backward(const Real* p, const TwoLayerWeights<Real>& done, Real* dp, const TwoLayerWeights<Real>& to,
                double* partial, X& executor) const noexcept {
    const Index weights = heads_ * of_.experts, tasks = stretches();
    executor.parallel_for(tasks, [&](Index task, Index) noexcept {
      double* const part = partial + task * weights;
      for (Index i = 0; i < weights; ++i) part[i] = 0;
      each_run(task, [&](Index k, Index head, Index begin, Index count) noexcept {
        const Real* const from = range(done, k) + begin;
        for (Index e = 0; e < of_.experts; ++e) {
          const Index first = e * kind_[k].count + begin, i = head * of_.experts + e;
          const bool last = e + 1 == of_.experts, trains = to.first.data != nullptr && p[i] != 0;
          const Real* const own = kind_[k].data + first;
          Real* const into = trains ? range(to, k) + first : nullptr;
          each_block(count, [&](Index at, Index n) noexcept {
            fetch(last ? nullptr : own + kind_[k].count, at, n);
            part[i] += static_cast<double>(dot(from + at, own + at, n));
            if (!trains) return;
            fetch(last ? nullptr : into + kind_[k].count, at, n);
            axpy_row(p[i], from + at, into + at, n);
          });
        }
      });
    });
    for (Index i = 0; i < weights; ++i) {
      double sum = 0;
      for (Index task = 0; task < tasks; ++task) sum += partial[task * weights + i];
      dp[i] = static_cast<Real>(sum);
    }
  }

 private:
  /// Numbers of a stretch: 16 KiB, a third of a first-level cache; and of a block, while which the same block
  /// of the next expert comes: every expert's stretch is a stream of its own, too short for the processor to
  /// find out.
  static constexpr Index kStretch = 16384 / Index{sizeof(Real)};
  static constexpr Index kBlock = 1024 / Index{sizeof(Real)};

  /// f(first, count) for the blocks of `count` numbers.
  template <class F>
  static void each_block(Index count, const F& f) noexcept {
    for (Index at = 0; at < count; at += kBlock) f(at, (std::min)(kBlock, count - at));
  }
  /// n numbers from `from` + at on; null: nothing.
  static void fetch(const Real* from, Index at, Index n) noexcept {
    for (Index i = 0; from != nullptr && i < n; i += kHalf<Real>) prefetch_l2(from + at + i);
  }
  /// The next expert with a weight.
  Index next(const Real* weight, Index e) const noexcept {
    do ++e;
    while (e < of_.experts && weight[e] == 0);
    return e;
  }

  struct Kind {
    const Real* data;
    Index count;  // of an expert
    impl::HeadRuns runs;
  };
  /// Kinds without numbers keep their place, so that range() knows them.
  void add(const Real* data, Index count, impl::HeadRuns runs) noexcept {
    if (runs.heads == 1) runs.run = count;
    kind_[kinds_++] = {data, data == nullptr ? 0 : count, runs};
  }
  static Real* range(const TwoLayerWeights<Real>& of, Index k) noexcept {
    Real* const at[] = {of.first.data, of.second.data, of.first_biases, of.second_biases};
    return at[k];
  }

  /// f(kind, head, begin, count) for the runs of a stretch, ascending.
  template <class F>
  void each_run(Index task, const F& f) const noexcept {
    Index k = 0;
    for (; task >= ceil_div(kind_[k].count, kStretch); ++k) task -= ceil_div(kind_[k].count, kStretch);
    const Index end = (std::min)((task + 1) * kStretch, kind_[k].count);
    for (Index begin = task * kStretch; begin < end;) {
      const impl::HeadRuns::Run run = kind_[k].runs.template at<kPanel<Real>>(begin);
      const Index stop = (std::min)(run.end, end);
      f(k, run.head, begin, stop - begin);
      begin = stop;
    }
  }

  static constexpr Index kMost = 4;
  TwoLayerWeights<const Real> of_;
  Index heads_;
  Kind kind_[kMost];
  Index kinds_ = 0;
};

MOE_NAMESPACE_END
