// Every output gets as many rows as every other one: an assignment of the batch in training, the best output
// of each row alone in inference. BASE layers, Lewis et al. 2103.16716.
#pragma once

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/kernel/top_k.hpp"
#include "moe/router/auction.hpp"
#include "moe/router/selection/concept.hpp"

MOE_NAMESPACE_BEGIN

/// In training one output per row, floor(T / N) or ceil(T / N) rows per output, T the active rows of the
/// batch, whatever its segments: the choice scores' sum is within T * tolerance * (their spread) of the
/// greatest there is (router/auction.hpp, which says what masks do). In inference the highest choice score.
class Assignment {
 public:
  static constexpr const char* kName = "assignment";
  struct Options {
    double tolerance = 1e-3;
  };

  static constexpr Coupling coupling(bool training) noexcept {
    return training ? Coupling::per_batch : Coupling::row_independent;
  }

  /// Throws config_error for a tolerance outside (0, 1].
  explicit Assignment(Options options) : options_(options) {
    if (!(options.tolerance > 0 && options.tolerance <= 1)) {
      fail<config_error>("assignment tolerance: expected a value in (0, 1], got ", options.tolerance);
    }
  }
  const Options& options() const noexcept { return options_; }

  template <class Real>
  void check_call(const RouterInput<Real>& in) const {
    impl::refuse_option("threshold", in.options.threshold, "the selection ", kName);
    impl::refuse_option("p", in.options.p, "the selection ", kName);
    impl::refuse_option("capacity factor", in.options.capacity_factor, "the selection ", kName);
    if (in.options.experts_per_token > 1) {
      fail<config_error>("experts per token: expected K = 1 (an assignment gives a row one expert), got ",
                         in.options.experts_per_token);
    }
  }

  Index max_pairs(const CallShape& shape, Index) const noexcept { return shape.tokens; }
  void measure(Arena& arena, Index tokens, Index outputs) const { Scratch{arena, tokens, outputs}; }

  template <class Real, Executor X>
  void select_set(const SetCall<Real>& set, ExpertId* chosen, Index* count, Arena& arena, X& executor) const {
    const Index tokens = set.choice.rows, n = set.choice.cols;
    Scratch scratch(arena, tokens, n);  // as measured, in training or not
    for (Index t = 0; t < tokens; ++t) count[t] = set.active[t] ? 1 : 0;
    if (!set.call.training) {
      executor.parallel_for(ceil_div(tokens, kTokens), [&](Index block, Index) noexcept {
        for (Index t = block * kTokens; t < tokens && t < (block + 1) * kTokens; ++t) {
          if (set.active[t]) top_k_row(set.choice.row(t), n, 1, chosen + t * n);
        }
      });
      return;
    }
    Index rows = 0;
    for (Index t = 0; t < tokens; ++t) {
      if (!set.active[t]) continue;
      for (Index e = 0; e < n; ++e) scratch.value[rows * n + e] = static_cast<double>(set.choice(t, e));
      ++rows;
    }
    scratch.auction.run(scratch.value, rows, n, options_.tolerance, scratch.output);
    for (Index t = 0, r = 0; t < tokens; ++t) {
      if (set.active[t]) chosen[t * n] = scratch.output[r++];
    }
  }

 private:
  static constexpr Index kTokens = 32;  // a worker takes at once

  struct Scratch {
    double* value;     // [T, N] of the active rows
    ExpertId* output;  // [T] of them
    BalancedAuction auction;
    Scratch(Arena& arena, Index tokens, Index outputs)
        : value(arena.take<double>(checked_product("scores", tokens, outputs))),
          output(arena.take<ExpertId>(tokens)),
          auction(arena, tokens, outputs) {}
  };

  Options options_;
};

MOE_NAMESPACE_END
