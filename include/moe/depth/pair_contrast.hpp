// The contrast of a stochastic pair (depth/stochastic_pair.hpp): a row's result against those of the noisy
// copies of all rows of its segment. The mean over rows t of -ln(exp(cos(u_t, u'_t) / tau) / sum over s of
// exp(cos(u_t, u'_s) / tau)).
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/kernel/row.hpp"
#include "moe/router/vector_length.hpp"

MOE_NAMESPACE_BEGIN

namespace impl {

/// What the contrast of a call takes.
struct ContrastMemory {
  double* unit;    // [2 T, D] u / |u|, then u' / |u'|
  double* length;  // [2 T]
  double* all;     // [T] ln sum over s of exp(cos / tau)
  ContrastMemory(Arena& arena, Index tokens, Index width)
      : unit(arena.take<double>(checked_product("contrast", Index{2}, tokens, width))),
        length(arena.take<double>(2 * tokens)),
        all(arena.take<double>(tokens)) {}
};

/// Of rows u and u' [T, D], those that are `active`, in the segments [begin, end) of each row.
template <class Real>
class PairContrast {
 public:
  PairContrast(const ContrastMemory& memory, const bool* active, const Index* begin, const Index* end,
               const ConstMatrixView<Real>& first, const ConstMatrixView<Real>& second, double tau) noexcept
      : memory_(memory),
        active_(active),
        begin_(begin),
        end_(end),
        first_(first),
        second_(second),
        tau_(tau) {}

  /// What loss and backward read.
  template <class X>
  void form(X& executor) const {
    executor.parallel_for(tokens(), [&](Index t, Index) noexcept {
      if (!active_[t]) return;
      for (const Index i : {t, tokens() + t}) {
        double* const to = memory_.unit + i * first_.cols;
        const Real* const from = i == t ? first_.row(t) : second_.row(t);
        for (Index j = 0; j < first_.cols; ++j) to[j] = static_cast<double>(from[j]);
        memory_.length[i] = length_of(to, first_.cols);
        for (Index j = 0; j < first_.cols; ++j) to[j] /= memory_.length[i];
      }
    });
    executor.parallel_for(tokens(), [&](Index t, Index) noexcept {
      if (!active_[t]) return;
      double top = -std::numeric_limits<double>::infinity(), sum = 0;
      for (Index s = begin_[t]; s < end_[t]; ++s) {
        if (active_[s]) top = (std::max)(top, similarity(t, s));
      }
      for (Index s = begin_[t]; s < end_[t]; ++s) {
        if (active_[s]) sum += std::exp(similarity(t, s) - top);
      }
      memory_.all[t] = top + std::log(sum);
    });
  }

  double loss() const noexcept {
    double sum = 0;
    for (Index t = 0; t < tokens(); ++t) {
      if (active_[t]) sum += memory_.all[t] - similarity(t, t);
    }
    const Index rows = count();
    return rows == 0 ? 0.0 : sum / static_cast<double>(rows);
  }

  /// du and du' += scale * d loss: d / d cos_ts = (q_ts - [s = t]) / tau, d cos / d u = (u' - cos u) / |u|
  /// of unit vectors. Every row sums up its own, ascending.
  template <class X>
  void backward(double scale, const MatrixView<Real>& du, const MatrixView<Real>& dother, X& executor) const {
    const Index rows = count(), n = first_.cols;
    if (rows == 0 || scale == 0) return;
    const double each = scale / tau_ / static_cast<double>(rows);
    executor.parallel_for(2 * tokens(), [&](Index i, Index) noexcept {
      const bool of_first = i < tokens();
      const Index own = of_first ? i : i - tokens();
      if (!active_[own]) return;
      Real* const d = of_first ? du.row(own) : dother.row(own);
      for (Index k = begin_[own]; k < end_[own]; ++k) {
        if (!active_[k]) continue;
        const Index t = of_first ? own : k, s = of_first ? k : own;
        const double similar = similarity(t, s);
        const double by =
            each * (std::exp(similar - memory_.all[t]) - (s == t ? 1.0 : 0.0)) / memory_.length[i];
        const double* const to = of_first ? unit(tokens() + s) : unit(t);
        for (Index j = 0; j < n; ++j) d[j] += static_cast<Real>(by * (to[j] - similar * tau_ * unit(i)[j]));
      }
    });
  }

 private:
  Index tokens() const noexcept { return first_.rows; }
  const double* unit(Index i) const noexcept { return memory_.unit + i * first_.cols; }
  double similarity(Index t, Index s) const noexcept {
    return moe::dot(unit(t), unit(tokens() + s), first_.cols) / tau_;
  }
  Index count() const noexcept {
    Index rows = 0;
    for (Index t = 0; t < tokens(); ++t) rows += active_[t] ? 1 : 0;
    return rows;
  }

  ContrastMemory memory_;
  const bool* active_;         // [T]
  const Index *begin_, *end_;  // [T]
  ConstMatrixView<Real> first_, second_;
  double tau_;
};

}  // namespace impl

MOE_NAMESPACE_END
