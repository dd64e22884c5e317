// One of two: output 0, what costs, if its score reaches a threshold, else output 1.
#pragma once

#include "moe/core/check.hpp"
#include "moe/router/selection/concept.hpp"

MOE_NAMESPACE_BEGIN

/// Of two outputs the first if its score is the threshold or more, else the second. CallOptions::threshold
/// takes the place of the threshold. With `all_in_training` a training call chooses the first for every row,
/// and it is the weighting that switches rows off: Router-Tuning trains so.
class GateSelection {
 public:
  static constexpr const char* kName = "gate";
  struct Options {
    double threshold = 0.5;
    bool all_in_training = false;
  };

  /// Throws config_error unless the threshold is in (0, 1).
  explicit GateSelection(Options options) : options_(options) {
    if (!(options.threshold > 0 && options.threshold < 1)) {
      fail<config_error>("threshold of a gate: expected a value in (0, 1), got ", options.threshold);
    }
  }
  const Options& options() const noexcept { return options_; }

  void check(Index outputs) const { require_range("outputs of a gate", outputs, 2, 2); }
  Index most(const CallOptions& options, Index) const {
    impl::refuse_option("experts per token", options.experts_per_token, "the selection ", kName);
    impl::refuse_option("capacity factor", options.capacity_factor, "the selection ", kName);
    impl::refuse_option("p", options.p, "the selection ", kName);
    return 1;
  }

  template <class Real>
  Index select(const RowContext<Real>& row, Real* choice, ExpertId* out) const noexcept {
    const bool open = choice[0] >= threshold(row) && choice[0] > impl::kMasked<Real>;
    const bool all = options_.all_in_training && row.training();
    out[0] = all || open ? 0 : 1;
    return 1;
  }

  /// What score 0 has to reach in the call of a row.
  template <class Real>
  Real threshold(const RowContext<Real>& row) const noexcept {
    const double asked = row.call.options.threshold;
    return static_cast<Real>(asked == 0 ? options_.threshold : asked);
  }

 private:
  Options options_;
};

MOE_NAMESPACE_END
