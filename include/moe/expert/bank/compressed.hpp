// Experts that are one vector each: z = c_e * x, number by number. What stands for an expert that matters
// less once it is compressed: He et al. 2503.00634.
#pragma once

#include <limits>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/expert/concept.hpp"
#include "moe/expert/slot_tasks.hpp"
#include "moe/kernel/row.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

struct CompressedOptions {
  Index experts = 0;  // E >= 1
  Index width = 0;    // D >= 1
};

/// Parameters "experts.<e>.compressed" c_e [D, 1], 0 at first: experts that return nothing.
template <class RealType = float>
class CompressedExperts {
 public:
  static constexpr const char* kName = "compressed";
  using Real = RealType;
  using Options = CompressedOptions;
  static constexpr Coupling coupling = Coupling::row_independent;
  static constexpr bool kFreezesPairs = true;
  struct Tape {};
  struct Gradients {
    Buffer<Real> vector;         // [E, D]
    impl::Movable<Index> width;  // D
  };

  /// Throws config_error naming the option out of range, size_error.
  explicit CompressedExperts(const Options& options) : options_(options) {
    require_range("experts", options.experts, 1, (std::numeric_limits<ExpertId>::max)());
    require_range("width", options.width, 1, PTRDIFF_MAX);
    vector_.assign(checked_product("experts x width", options.experts, options.width), Real{0});
  }

  Index experts() const noexcept { return options_->experts; }
  Index width() const noexcept { return options_->width; }
  Index bytes() const noexcept { return vector_.size() * Index{sizeof(Real)}; }

  void measure(Arena&, Index, Index) const noexcept {}
  void measure_backward(Arena&, Index, Index) const noexcept {}

  template <Executor X>
  void forward(const RowBatch<Real>& batch, const RowSink<Real>& sink, Arena&, X& executor) const {
    require_experts(experts(), batch);
    for_each_slot(batch, executor,
                  [&](Index e, Index s) noexcept { multiply(vector(e), batch.row[s], sink.row(s)); });
  }

  /// With dz = weight * dy: dweight = <dy, z>, dx (unless dx.data is null), and gradients (unless null) of
  /// slots that are not frozen added to, slots ascending. Throws shape_error for gradients of another bank.
  template <Executor X>
  void backward(const RowBatch<Real>& batch, const Tape&, const RowGradients<Real>& rows,
                Gradients* gradients, Arena&, X& executor) const {
    require_experts(experts(), batch);
    impl::check_gradients_of(*this, gradients);
    for_each_slot(batch, executor, [&](Index e, Index s) noexcept {
      const Real *const c = vector(e), *const x = batch.row[s], *const dy = rows.dy[s];
      Real sum = 0;
      for (Index j = 0; j < width(); ++j) sum = moe::fma(dy[j], c[j] * x[j], sum);
      rows.dweight[s] = sum;
      if (rows.dx.data == nullptr) return;
      Real* const dx = rows.dx.row(s);
      multiply(c, dy, dx);
      scale_row(rows.weight[s], dx, dx, width());
    });
    if (gradients == nullptr) return;
    executor.parallel_for(experts(), [&](Index e, Index) noexcept {
      Real* const dc = gradients->vector.data() + e * width();
      for (Index s = batch.offsets[e]; s < batch.offsets[e + 1]; ++s) {
        const Real *const x = batch.row[s], *const dy = rows.dy[s];
        for (Index j = 0; !rows.freezes(s) && j < width(); ++j)
          dc[j] = moe::fma(rows.weight[s] * dy[j], x[j], dc[j]);
      }
    });
  }

  Gradients make_gradients() const { return {Buffer<Real>(vector_.size()), width()}; }

  /// Ids in names from first_id on.
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f, Index first_id = 0) {
    for (Index e = 0; e < experts(); ++e) {
      const auto view = [&](Buffer<Real>& of) {
        return ParameterView<Real>{of.data() + e * width(), width(), 1};
      };
      f(Parameter<Real>{ParameterName("experts.", first_id + e, ".compressed").c_str(), view(vector_),
                        gradients == nullptr ? ParameterView<Real>{} : view(gradients->vector)});
    }
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor&& f) {
    if (gradients != nullptr && gradients->width != width()) {
      fail<shape_error>("gradients of experts.compressed: expected ", width(),
                        " columns (ask make_gradients()), got ", gradients->width.get());
    }
    visit_buffer(f, "experts.compressed", vector_, gradients, &Gradients::vector);
  }

 private:
  const Real* vector(Index e) const noexcept { return vector_.data() + e * width(); }
  void multiply(const Real* a, const Real* b, Real* to) const noexcept {
    for (Index j = 0; j < width(); ++j) to[j] = a[j] * b[j];
  }

  impl::Movable<Options> options_;
  Buffer<Real> vector_;  // [E, D]
};

/// Their vectors stay as they are.
template <class To, class Real>
CompressedExperts<Real> quantise(const CompressedExperts<Real>& bank) {
  return bank;
}

MOE_NAMESPACE_END
