// Rows that do not know where to go are sent to every expert: the entropy of their probabilities tells.
// DynMoLE (Tsallis entropy, around a top-p), GW-MoE, Wu et al. 2406.12375 (Shannon's, in training).
#pragma once

#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/part_hooks.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/kernel/top_k.hpp"
#include "moe/router/entropy.hpp"
#include "moe/router/selection/concept.hpp"

MOE_NAMESPACE_BEGIN

struct BroadcastOptions {
  double threshold = 0.9;      // entropy above which a row is broadcast
  bool fraction = true;        // of the largest entropy that the row's open outputs allow; false: as it is
  double order = 1;            // q of the entropy, router/entropy.hpp
  bool training_only = false;  // inference: always the inner selection
};

/// Every open output, highest choice score first, for rows whose softmax of the logits has an entropy above
/// the threshold; else what Inner selects. With a fraction of 1 or more no row is broadcast.
template <Selection Inner>
requires(!impl::kHasGradients<Inner>) class BroadcastUncertain
    : public impl::InnerHooks<BroadcastUncertain<Inner>, Inner> {
 public:
  /// Throws config_error for a threshold below 0 or not finite, or an order outside (0, 100].
  BroadcastUncertain(Inner inner, BroadcastOptions options)
      : inner_(std::move(inner)), options_(options), entropy_(options.order) {
    if (!(options.threshold >= 0 && is_finite(options.threshold))) {
      fail<config_error>("entropy threshold: expected a finite value >= 0, got ", options.threshold);
    }
  }

  Inner& inner() noexcept { return inner_; }
  const Inner& inner() const noexcept { return inner_; }
  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    f(role, "broadcast_uncertain");
    impl::visit_names_of(role, inner_, f);
  }

  Index most(const CallOptions& options, Index n) const {
    static_cast<void>(inner_.most(options, n));
    return n;
  }

  template <class Real>
  Index select(const RowContext<Real>& row, Real* choice, ExpertId* out) const noexcept {
    if (!uncertain(row)) return inner_.select(row, choice, out);
    top_k_row(choice, row.n, row.n, out);
    return impl::without_masked(choice, out, row.n);
  }

 private:
  template <class Real>
  bool uncertain(const RowContext<Real>& row) const noexcept {
    if (options_.training_only && !row.training()) return false;
    const double entropy = entropy_.of_logits(row.logit, row.n);
    if (!options_.fraction) return entropy > options_.threshold;
    if (options_.threshold >= 1) return false;  // whatever the entropy's rounding
    return entropy > options_.threshold * entropy_.largest(impl::open_outputs(row.logit, row.n));
  }

  Inner inner_;
  BroadcastOptions options_;
  impl::Entropy entropy_;
};

MOE_NAMESPACE_END
