// Experts with a batch norm and an activation behind them: z = act(scale * (f(x) - mean) / sqrt(variance +
// eps) + shift), so that the results of all experts have one distribution. HoME (of Kuaishou), Wang et al.
// 2408.05430: Swish.
#pragma once

#include <cmath>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/expert/concept.hpp"
#include "moe/expert/slot_tasks.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/row.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

struct BatchNormOptions {
  double eps = 1e-5;      // beside the variance
  double momentum = 0.1;  // of the saved statistics: s += momentum (s of the step - s)
};

/// Inner's experts, each under a norm of its own. In a call that trains, mean and variance (over n) are those
/// of the expert's rows in the batch, which couples them; an expert of fewer than two rows, and every call
/// that does not train, takes the saved ones, which move by take_statistics(). Parameters
/// "experts.<e>.norm.weight" and ".bias" [D, 1], 1 and 0 at first, then Inner's; state "experts.norm.mean"
/// and "experts.norm.variance" [E, D], 0 and 1 at first.
template <TrainableExpertBank Inner, Activation Act = Silu>
class NormedExperts {
 public:
  static constexpr const char* kName = "normed";
  using Real = typename Inner::Real;
  /// Of a batch that trains.
  static constexpr Coupling coupling = Coupling::per_batch;
  static constexpr Coupling inference_coupling = impl::bank_coupling<Inner>(false);
  static constexpr bool kFreezesPairs = impl::kFreezesPairs<Inner>;

  struct Tape {
    Index slots = -1;
    Buffer<Real> raw;         // [P, D] Inner's results
    Buffer<double> mean;      // [E, D] that were taken off
    Buffer<double> variance;  // [E, D]
    Buffer<bool> live;        // [E] these are the batch's
    typename Inner::Tape inner;
  };
  struct Gradients {
    Buffer<Real> scale;       // [E, D]
    Buffer<Real> shift;       // [E, D]
    Buffer<double> count;     // [E] rows whose statistics came, and these:
    Buffer<double> mean;      // [E, D]
    Buffer<double> variance;  // [E, D] sums of squares about the mean
    impl::GradientsOf<Inner> inner;
  };

  /// Throws config_error for an eps that is not positive and finite, or a momentum outside [0, 1].
  explicit NormedExperts(Inner inner, BatchNormOptions options = {}, Act act = Act{})
      : inner_(std::move(inner)), options_(options), act_(std::move(act)) {
    if (!(options.eps > 0 && is_finite(options.eps))) {
      fail<config_error>("norm eps: expected a finite value > 0, got ", options.eps);
    }
    if (!(options.momentum >= 0 && options.momentum <= 1)) {
      fail<config_error>("norm momentum: expected a value in [0, 1], got ", options.momentum);
    }
    const Index size = checked_product("experts x width", experts(), width());
    scale_.assign(size, Real{1});
    shift_.assign(size, Real{0});
    mean_.assign(size, 0.0);
    variance_.assign(size, 1.0);
  }

  /// The same norms behind other experts, as many and as wide: see quantise(). Throws shape_error for others.
  template <class Other>
  NormedExperts<Other, Act> with_inner(Other other) const {
    NormedExperts<Other, Act> made(std::move(other), options_, act_);
    require_extent("experts of a norm", "numbers of results", scale_.size(), made.scale_.size());
    made.scale_ = scale_;
    made.shift_ = shift_;
    made.mean_ = mean_;
    made.variance_ = variance_;
    return made;
  }

  Index experts() const noexcept { return inner_.experts(); }
  Index width() const noexcept { return inner_.width(); }
  Index output_width() const noexcept { return impl::output_width_of(inner_); }
  Inner& inner() noexcept { return inner_; }
  const Inner& inner() const noexcept { return inner_; }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    f(role, kName);
    impl::visit_names_of(role, inner_, f);
  }
  template <class Call>
  void check_call(const Call& in) const {
    impl::check_call_of(inner_, in);
  }

  void measure(Arena& arena, Index pairs, Index concurrency) const {
    Scratch{arena, pairs, *this};
    impl::measure_of(inner_, arena, pairs, concurrency);
  }
  void measure_backward(Arena& arena, Index pairs, Index concurrency) const {
    BackwardScratch{arena, pairs, *this};
    impl::measure_backward_of(inner_, arena, pairs, concurrency);
  }

  template <Executor X>
  void forward(const RowBatch<Real>& batch, const RowSink<Real>& sink, Arena& arena, X& executor) const {
    require_experts(experts(), batch);
    const Scratch scratch(arena, batch.slots(), *this);
    inner_.forward(batch, scratch.sink(width()), arena, executor);
    gather(batch.slots(), scratch, scratch.raw);
    run(batch, sink, scratch.raw, scratch.mean, scratch.variance, scratch.live, executor);
  }
  template <Executor X>
  void forward_train(const RowBatch<Real>& batch, const RowSink<Real>& sink, Tape& tape, Arena& arena,
                     X& executor) const {
    require_experts(experts(), batch);
    const Index slots = batch.slots(), size = experts() * width();
    const Scratch scratch(arena, slots, *this);
    tape.slots = -1;
    Real* const raw = tape.raw.resize(checked_product("tape", slots, width()));
    double *const mean = tape.mean.resize(size), *const variance = tape.variance.resize(size);
    bool* const live = tape.live.resize(experts());
    impl::forward_train_of(inner_, batch, scratch.sink(width()), tape.inner, arena, executor);
    gather(slots, scratch, raw);
    run(batch, sink, raw, mean, variance, live, executor);
    tape.slots = slots;
  }

  /// With dz = weight * dy: dweight, dx (unless dx.data is null), and gradients (unless null) of slots that
  /// are not frozen added to, slots ascending; with them the statistics of the batch, if it trained. Throws
  /// state_error for the tape of another batch or bank, shape_error for gradients of another bank.
  template <Executor X>
  void backward(const RowBatch<Real>& batch, const Tape& tape, const RowGradients<Real>& rows,
                Gradients* gradients, Arena& arena, X& executor) const {
    require_experts(experts(), batch);
    const Index slots = batch.slots(), d = width();
    if (tape.slots != slots || tape.raw.size() != slots * d || tape.mean.size() != experts() * d ||
        tape.live.size() != experts()) {
      fail<state_error>("expert tape: expected the tape of this bank and a batch of ", slots,
                        " rows, got one of ", tape.slots);
    }
    impl::check_gradients_of(*this, gradients);
    const BackwardScratch scratch(arena, slots, *this);
    executor.parallel_for(experts(), [&](Index e, Index) noexcept {
      backward_expert(e, batch, tape, rows, gradients, scratch);
    });
    RowGradients<Real> at_inner = rows;
    at_inner.dy = scratch.draw_row;
    at_inner.weight = scratch.one;
    at_inner.dweight = scratch.dweight;
    inner_.backward(batch, tape.inner, at_inner, gradients == nullptr ? nullptr : &gradients->inner, arena,
                    executor);
    if (gradients != nullptr) add_statistics(batch, tape, *gradients);
  }

  /// Moves the saved statistics by those that came with `gradients` since the last time, of all calls of a
  /// step together (the variance over n - 1), and forgets them there. For the end of a step. Throws
  /// shape_error for gradients of another bank.
  void take_statistics(Gradients& gradients) {
    impl::check_gradients_of(*this, &gradients);
    for (Index e = 0; e < experts(); ++e) {
      const double n = gradients.count[e];
      for (Index i = e * width(); n > 1 && i < (e + 1) * width(); ++i) {
        mean_[i] += options_.momentum * (gradients.mean[i] - mean_[i]);
        variance_[i] += options_.momentum * (gradients.variance[i] / (n - 1) - variance_[i]);
      }
    }
    gradients.count.fill(0);
    gradients.mean.fill(0);
    gradients.variance.fill(0);
  }

  Gradients make_gradients() const {
    const Index size = scale_.size();
    return {Buffer<Real>(size),   Buffer<Real>(size),   Buffer<double>(experts()),
            Buffer<double>(size), Buffer<double>(size), impl::make_gradients_of(inner_)};
  }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f) {
    const Index d = width();
    for (Index e = 0; e < experts(); ++e) {
      const auto show = [&](const char* kind, Buffer<Real>& values, Buffer<Real> Gradients::*own) {
        const auto view = [&](Buffer<Real>& of) { return ParameterView<Real>{of.data() + e * d, d, 1}; };
        f(Parameter<Real>{ParameterName("experts.", e, ".norm.", kind).c_str(), view(values),
                          gradients == nullptr ? ParameterView<Real>{} : view(gradients->*own)});
      };
      show("weight", scale_, &Gradients::scale);
      show("bias", shift_, &Gradients::shift);
    }
    impl::visit_parameters_of(inner_, gradients == nullptr ? nullptr : &gradients->inner, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor&& f) {
    if (gradients != nullptr) {
      require_extent("gradients of experts.norm", "experts", experts(), gradients->count.size());
      require_extent("gradients of experts.norm", "statistics", scale_.size(), gradients->mean.size());
      require_extent("gradients of experts.norm", "statistics", scale_.size(), gradients->variance.size());
    }
    visit_buffer(f, "experts.norm.weight", scale_, gradients, &Gradients::scale);
    visit_buffer(f, "experts.norm.bias", shift_, gradients, &Gradients::shift);
    impl::visit_storage_of(inner_, gradients == nullptr ? nullptr : &gradients->inner, f);
  }

  void on_step_end(const RouteStats& stats) { impl::on_step_end_of(inner_, stats); }
  /// f gets copies, taken over if they are finite, and variances not below 0; otherwise numeric_error.
  template <class Visitor>
  void visit_state(Visitor& f) {
    Buffer<double> mean = mean_, variance = variance_;
    f("experts.norm.mean", mean.data(), mean.size());
    f("experts.norm.variance", variance.data(), variance.size());
    for (Index i = 0; i < mean.size(); ++i) {
      if (!(is_finite(mean[i]) && is_finite(variance[i]) && variance[i] >= 0)) {
        fail<numeric_error>("statistics of a norm: expected finite means and variances >= 0, got ", mean[i],
                            " and ", variance[i]);
      }
    }
    mean_ = std::move(mean);
    variance_ = std::move(variance);
    impl::visit_state_of(inner_, f);
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    f("experts.norm.mean", mean_.data(), mean_.size());
    f("experts.norm.variance", variance_.data(), variance_.size());
    impl::visit_state_of(inner_, f);
  }

 private:
  template <TrainableExpertBank OtherInner, Activation OtherAct>
  friend class NormedExperts;

  struct Scratch {
    const Real** result;  // [P] Inner's results
    Real* rows;           // [P, D] where it writes them
    Real* raw;            // [P, D]
    double* mean;         // [E, D]
    double* variance;     // [E, D]
    bool* live;           // [E]
    Scratch(Arena& arena, Index slots, const NormedExperts& bank)
        : result(arena.take<const Real*>(slots)),
          rows(arena.take<Real>(checked_product("expert results", slots, bank.width()))),
          raw(arena.take<Real>(slots * bank.width())),
          mean(arena.take<double>(bank.experts() * bank.width())),
          variance(arena.take<double>(bank.experts() * bank.width())),
          live(arena.take<bool>(bank.experts())) {
      for (Index s = 0; !arena.measuring() && s < slots; ++s) result[s] = rows + s * bank.width();
    }
    RowSink<Real> sink(Index width) const noexcept { return {rows, width, result}; }
  };
  struct BackwardScratch {
    const Real** draw_row;  // [P]
    Real* draw;             // [P, D] gradients of Inner's results
    Real* one;              // [P]
    Real* dweight;          // [P] that nobody reads
    double* sum;            // [E, D] of the normed gradients, and
    double* along;          // [E, D] of their products with the normed rows
    BackwardScratch(Arena& arena, Index slots, const NormedExperts& bank)
        : draw_row(arena.take<const Real*>(slots)),
          draw(arena.take<Real>(checked_product("gradients of results", slots, bank.width()))),
          one(arena.take<Real>(slots)),
          dweight(arena.take<Real>(slots)),
          sum(arena.take<double>(bank.experts() * bank.width())),
          along(arena.take<double>(bank.experts() * bank.width())) {}
  };

  void gather(Index slots, const Scratch& scratch, Real* raw) const noexcept {
    for (Index s = 0; s < slots; ++s) {
      if (scratch.result[s] == nullptr) {
        fill_row(Real{0}, raw + s * width(), width());
      } else {
        copy_row(scratch.result[s], raw + s * width(), width());
      }
    }
  }

  Real inverse(double variance) const noexcept {
    return static_cast<Real>(1 / std::sqrt(variance + options_.eps));
  }

  /// Statistics by expert, of its rows ascending, then the results.
  template <Executor X>
  void run(const RowBatch<Real>& batch, const RowSink<Real>& sink, const Real* raw, double* mean,
           double* variance, bool* live, X& executor) const noexcept {
    const Index d = width();
    executor.parallel_for(experts(), [&](Index e, Index) noexcept {
      const Index first = batch.offsets[e], last = batch.offsets[e + 1];
      double *const m = mean + e * d, *const v = variance + e * d;
      live[e] = batch.draws != nullptr && last - first > 1;
      for (Index j = 0; j < d; ++j) {
        m[j] = live[e] ? 0 : mean_[e * d + j];
        v[j] = live[e] ? 0 : variance_[e * d + j];
      }
      if (!live[e]) return;
      const auto n = static_cast<double>(last - first);
      for (Index s = first; s < last; ++s) {
        for (Index j = 0; j < d; ++j) m[j] += static_cast<double>(raw[s * d + j]);
      }
      for (Index j = 0; j < d; ++j) m[j] /= n;
      for (Index s = first; s < last; ++s) {
        for (Index j = 0; j < d; ++j) {
          const double off = static_cast<double>(raw[s * d + j]) - m[j];
          v[j] = moe::fma(off, off, v[j]);
        }
      }
      for (Index j = 0; j < d; ++j) v[j] /= n;
    });
    for_each_slot(batch, executor, [&](Index e, Index s) noexcept {
      Real* const z = sink.row(s);
      for (Index j = 0; j < d; ++j) {
        const Index i = e * d + j;
        z[j] = moe::fma(scale_[i], normed(raw[s * d + j], mean[i], variance[i]), shift_[i]);
      }
      activate_row(act_, z, z, d);
    });
  }
  Real normed(Real raw, double mean, double variance) const noexcept {
    return static_cast<Real>(static_cast<double>(raw) - mean) * inverse(variance);
  }

  /// dscale, dshift, and the gradients of Inner's results of expert e. Of the batch's statistics
  /// draw = inverse (g - mean g - normed mean(g normed)) with g = scale du, else inverse g.
  void backward_expert(Index e, const RowBatch<Real>& batch, const Tape& tape, const RowGradients<Real>& rows,
                       Gradients* gradients, const BackwardScratch& scratch) const noexcept {
    const Index d = width(), first = batch.offsets[e], last = batch.offsets[e + 1];
    const double *const mean = tape.mean.data() + e * d, *const variance = tape.variance.data() + e * d;
    double *const sum = scratch.sum + e * d, *const along = scratch.along + e * d;
    for (Index j = 0; j < d; ++j) sum[j] = along[j] = 0;
    for (Index s = first; s < last; ++s) {
      Real* const g = scratch.draw + s * d;
      const Real* const raw = tape.raw.data() + s * d;
      for (Index j = 0; j < d; ++j)
        g[j] = moe::fma(scale_[e * d + j], normed(raw[j], mean[j], variance[j]), shift_[e * d + j]);
      Real dweight = 0;
      for (Index j = 0; j < d; ++j) {
        const Real u = g[j];
        dweight = moe::fma(rows.dy[s][j], act_.value(u), dweight);
        g[j] = rows.weight[s] * rows.dy[s][j] * act_.derivative(u);
      }
      rows.dweight[s] = dweight;
      for (Index j = 0; j < d; ++j) {
        const Real x = normed(raw[j], mean[j], variance[j]);
        if (gradients != nullptr && !rows.freezes(s)) {
          gradients->shift[e * d + j] += g[j];
          gradients->scale[e * d + j] = moe::fma(g[j], x, gradients->scale[e * d + j]);
        }
        g[j] *= scale_[e * d + j];
        sum[j] += static_cast<double>(g[j]);
        along[j] = moe::fma(static_cast<double>(g[j]), static_cast<double>(x), along[j]);
      }
      scratch.draw_row[s] = g;
      scratch.one[s] = 1;
    }
    const auto n = static_cast<double>(last - first);
    for (Index s = first; s < last; ++s) {
      Real* const g = scratch.draw + s * d;
      for (Index j = 0; j < d; ++j) {
        double of = static_cast<double>(g[j]);
        if (tape.live[e]) {
          const Real x = normed(tape.raw[s * d + j], mean[j], variance[j]);
          of -= (sum[j] + static_cast<double>(x) * along[j]) / n;
        }
        g[j] = static_cast<Real>(of) * inverse(variance[j]);
      }
    }
  }

  /// Means and squares of two samples together.
  void add_statistics(const RowBatch<Real>& batch, const Tape& tape, Gradients& to) const noexcept {
    for (Index e = 0; e < experts(); ++e) {
      if (!tape.live[e]) continue;
      const auto n = static_cast<double>(batch.offsets[e + 1] - batch.offsets[e]);
      const double before = to.count[e], all = before + n;
      for (Index i = e * width(); i < (e + 1) * width(); ++i) {
        const double off = tape.mean[i] - to.mean[i];
        to.variance[i] += n * tape.variance[i] + off * off * before * n / all;
        to.mean[i] += off * n / all;
      }
      to.count[e] = all;
    }
  }

  Inner inner_;
  BatchNormOptions options_;
  Act act_;
  Buffer<Real> scale_;       // [E, D]
  Buffer<Real> shift_;       // [E, D]
  Buffer<double> mean_;      // [E, D] saved
  Buffer<double> variance_;  // [E, D] saved
};

/// The inner experts', under the same norms.
template <class To, class Inner, class Act>
auto quantise(const NormedExperts<Inner, Act>& bank) {
  return bank.with_inner(quantise<To>(bank.inner()));
}

MOE_NAMESPACE_END
