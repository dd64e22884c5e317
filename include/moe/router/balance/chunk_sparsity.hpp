// Chunk-level sparsity: few experts over a chunk of neighbouring tokens, so that their weights are read once.
// BlockFFN, 2507.08771.
#pragma once

#include <cmath>

#include "moe/core/check.hpp"
#include "moe/router/balance/concept.hpp"

MOE_NAMESPACE_BEGIN

/// c * mean over chunks and outputs of 1 - prod over the chunk's tokens of (1 - p + d), p = score / (sum of
/// the token's scores + d), d = 1e-5 as in the released code: how likely a chunk touches an expert. Chunks
/// are `length` rows of a segment that take part, the last one of it what is left; they count alike. For
/// scores >= 0.
class ChunkSparsity {
 public:
  static constexpr const char* kName = "chunk_sparsity";
  struct Options {
    double coefficient = 5e-2;
    Index length = 64;
  };

  ChunkSparsity() = default;
  /// Throws config_error for a coefficient that is not finite or a length below 1.
  explicit ChunkSparsity(Options options) : options_(options) {
    impl::checked_coefficient(kName, options.coefficient);
    require_range("chunk length", options.length, 1, PTRDIFF_MAX);
  }

  double coefficient() const noexcept { return options_.coefficient; }
  void measure(Arena& arena, Index, Index outputs) const { arena.take<double>(outputs); }

  template <class Real>
  double forward(const BalanceInput<Real>& in, Arena& arena) const {
    double* const untouched = arena.take<double>(in.outputs());
    const double per_entry = per_entry_of(in);
    double sum = 0;
    each_chunk(in, [&](Index first, Index last) {
      form_untouched(in, first, last, untouched);
      for (Index e = 0; e < in.outputs(); ++e) sum += 1 - untouched[e];
    });
    return per_entry * sum;
  }

  /// d / d p_te = untouched_e / (1 - p_te + d); d / d s_j = (d_j - sum_e p_e d_e) / (sum of scores + d).
  template <class Real>
  void backward(const BalanceInput<Real>& in, double scale, const BalanceGradients<Real>& out,
                Arena& arena) const {
    double* const untouched = arena.take<double>(in.outputs());
    const double per_entry = scale * per_entry_of(in);
    each_chunk(in, [&](Index first, Index last) {
      form_untouched(in, first, last, untouched);
      for (Index t = first; t < last; ++t) {
        if (!in.active[t]) continue;
        const double sum = sum_of(in, t);
        double through = 0;
        for (Index e = 0; e < in.outputs(); ++e) {
          const double p = static_cast<double>(in.score(t, e)) / sum;
          through += p * untouched[e] / (1 - p + kFloor);
        }
        for (Index e = 0; e < in.outputs(); ++e) {
          const double p = static_cast<double>(in.score(t, e)) / sum;
          out.dscore(t, e) +=
              static_cast<Real>(per_entry * (untouched[e] / (1 - p + kFloor) - through) / sum);
        }
      }
    });
  }

 private:
  static constexpr double kFloor = 1e-5;

  /// f(first, last) for every chunk, ascending; rows in between that take no part belong to none.
  template <class Real, class F>
  void each_chunk(const BalanceInput<Real>& in, F&& f) const {
    const Segments& segments = in.call.segments;
    for (Index s = 0; s < segments.count(in.tokens()); ++s) {
      const Index end = segments.end(s, in.tokens());
      Index first = segments.begin(s), rows = 0;
      for (Index t = first; t < end; ++t) {
        rows += in.active[t] ? 1 : 0;
        if (rows < options_.length) continue;
        f(first, t + 1);
        first = t + 1;
        rows = 0;
      }
      if (rows > 0) f(first, end);
    }
  }
  /// c / (chunks * outputs).
  template <class Real>
  double per_entry_of(const BalanceInput<Real>& in) const {
    Index chunks = 0;
    each_chunk(in, [&](Index, Index) { ++chunks; });
    return chunks == 0
               ? 0.0
               : options_.coefficient / static_cast<double>(chunks) / static_cast<double>(in.outputs());
  }
  template <class Real>
  static double sum_of(const BalanceInput<Real>& in, Index t) noexcept {
    double sum = kFloor;
    for (Index e = 0; e < in.outputs(); ++e) sum += static_cast<double>(in.score(t, e));
    return sum;
  }
  /// untouched[e] = prod of (1 - p + d).
  template <class Real>
  static void form_untouched(const BalanceInput<Real>& in, Index first, Index last,
                             double* untouched) noexcept {
    for (Index e = 0; e < in.outputs(); ++e) untouched[e] = 1;
    for (Index t = first; t < last; ++t) {
      if (!in.active[t]) continue;
      const double sum = sum_of(in, t);
      for (Index e = 0; e < in.outputs(); ++e) {
        untouched[e] *= 1 - static_cast<double>(in.score(t, e)) / sum + kFloor;
      }
    }
  }

  Options options_{};
};

MOE_NAMESPACE_END
