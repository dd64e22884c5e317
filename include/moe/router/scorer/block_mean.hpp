// A router without parameters: every expert owns a block of the row. LocMoE, 2401.13920 (grouped average
// pooling).
#pragma once

#include "moe/core/check.hpp"
#include "moe/core/moved.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/router/expert_blocks.hpp"
#include "moe/router/logit_checks.hpp"
#include "moe/router/scorer/concept.hpp"

MOE_NAMESPACE_BEGIN

struct BlockMeanScorerOptions {
  Index width = 0;    // D, a multiple of N
  Index outputs = 0;  // N
  Index devices = 1;  // blocks of outputs, for the bonus
  double bonus = 0;   // added to the logits of the outputs on the row's device (column `device`)
};

/// logit_e = mean of x over its block of D / N columns (+ bonus): gates that are orthogonal for good.
template <class RealType>
class BlockMeanScorer {
 public:
  using Real = RealType;
  using Options = BlockMeanScorerOptions;
  struct Tape {};
  struct Gradients {};
  static constexpr const char* kName = "block_mean";

  /// Throws config_error for sizes below 1, blocks that do not come out even, or a bonus that is not finite.
  explicit BlockMeanScorer(const Options& options) : options_(options) {
    require_range("outputs", options.outputs, 1, INT32_MAX);
    require_range("width", options.width, 1, INT32_MAX);
    if (options.width % options.outputs != 0) {
      fail<config_error>("width: expected a multiple of the ", options.outputs, " outputs, got ",
                         options.width);
    }
    impl::require_blocks("devices", options.devices, options.outputs);
    if (!is_finite(options.bonus)) {
      fail<config_error>("locality bonus: expected a finite value, got ", options.bonus);
    }
  }

  Index width() const noexcept { return options_->width; }
  Index outputs() const noexcept { return options_->outputs; }
  /// There is nothing to draw.
  void initialise(std::uint64_t) noexcept {}

  template <class Call>
  void check_call(const Call& in) const {
    if (options_->bonus != 0) impl::check_device_column(in, options_->devices);
  }
  void measure(Arena&, Index, Index) const noexcept {}
  void measure_backward(Arena&, Index, Index) const noexcept {}

  template <Executor X>
  void logits(const RouterInput<Real>& in, const Logits<Real>& out, Tape*, Arena&, X& executor) const {
    executor.parallel_for(in.tokens(), [&](Index t, Index) noexcept {
      for (Index e = 0; e < outputs(); ++e) {
        out.value(t, e) = sum_row(in.x.row(t) + e * block(), block()) / static_cast<Real>(block());
      }
      impl::finite_or_spoiled(out.value.row(t), outputs());
      if (options_->bonus == 0 || !in.takes_part(t)) return;
      const impl::LocalOutputs local(in, t, options_->devices, outputs());
      for (Index e = local.first; e < local.last; ++e) out.value(t, e) += static_cast<Real>(options_->bonus);
    });
  }

  template <Executor X>
  void backward(const RouterInput<Real>& in, const Tape&, const Logits<Real>& dlogits,
                const MatrixView<Real>& dx, Gradients*, Arena&, X& executor) const {
    const Index count = dlogits.rows == nullptr ? in.tokens() : dlogits.row_count;
    executor.parallel_for(dx ? count : 0, [&](Index a, Index) noexcept {
      const Index t = dlogits.rows == nullptr ? a : Index{dlogits.rows[a]};
      for (Index j = 0; j < width(); ++j)
        dx(t, j) += dlogits.value(t, j / block()) / static_cast<Real>(block());
    });
  }

  Gradients make_gradients() const noexcept { return {}; }

 private:
  Index block() const noexcept { return options_->width / options_->outputs; }

  impl::Movable<Options> options_;
};

MOE_NAMESPACE_END
