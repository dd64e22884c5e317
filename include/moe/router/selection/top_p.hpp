// As many experts as it takes to hold a share p of the row's probability. Huang et al. 2403.07652, "Harder
// tasks need more experts".
#pragma once

#include <cstdint>

#include "moe/core/check.hpp"
#include "moe/kernel/top_k.hpp"
#include "moe/router/selection/concept.hpp"

MOE_NAMESPACE_BEGIN

/// Where the sum of the scores stops that are taken, highest first.
enum class MassRule : std::uint8_t {
  exceeds,  // with the first expert by which it is above p (the paper's code)
  reaches,  // with the first by which it is p or above (the paper's text)
  within,   // before the first by which it is above p (DynMoLE)
};

/// The experts of highest choice score whose scores add up to p; at least `least` of them, all that are open
/// with p = 1. Scores are to be shares of 1 (Softmax); sums run in double, highest score first.
/// CallOptions::p takes the place of p.
class TopPSelection {
 public:
  static constexpr const char* kName = "top_p";
  struct Options {
    double p = 0.4;
    MassRule rule = MassRule::exceeds;
    Index least = 1;
  };

  /// Throws config_error for a p outside (0, 1] or least < 1.
  explicit TopPSelection(Options options) : options_(options) {
    check_p(options.p);
    require_range("least experts per token", options.least, 1, INT32_MAX);
  }
  const Options& options() const noexcept { return options_; }

  void check(Index outputs) const { require_range("least experts per token", options_.least, 1, outputs); }
  Index most(const CallOptions& options, Index n) const {
    impl::refuse_option("experts per token", options.experts_per_token, "the selection ", kName);
    impl::refuse_option("threshold", options.threshold, "the selection ", kName);
    impl::refuse_option("capacity factor", options.capacity_factor, "the selection ", kName);
    if (options.p != 0) check_p(options.p);
    return n;
  }

  template <class Real>
  Index select(const RowContext<Real>& row, Real* choice, ExpertId* out) const noexcept {
    const double p = row.call.options.p == 0 ? options_.p : row.call.options.p;
    top_k_row(choice, row.n, row.n, out);
    const Index open = impl::without_masked(choice, out, row.n);
    if (p == 1) return open;  // whatever the scores' rounding
    double sum = 0;
    Index count = 0;
    while (count < open) {
      sum += static_cast<double>(row.score[out[count]]);
      if (options_.rule == MassRule::within && sum > p) break;
      ++count;
      if (options_.rule == MassRule::reaches ? sum >= p : sum > p) break;
    }
    const Index least = options_.least < open ? options_.least : open;
    return count < least ? least : count;
  }

 private:
  static void check_p(double p) {
    if (!(p > 0 && p <= 1)) fail<config_error>("p: expected a share in (0, 1], got ", p);
  }

  Options options_;
};

MOE_NAMESPACE_END
