// An expert whose result is what the call brought along for the row: a memory of the layers before, beside
// the other experts. TaskExpert, Ye and Xu 2307.15324.
#pragma once

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/expert/concept.hpp"
#include "moe/kernel/row.hpp"

MOE_NAMESPACE_BEGIN

/// A bank of one expert, f(row t) = row t of the column `carry` [T, D], which is never copied; without the
/// column its result is 0. For a Composite, behind the others. A layer with it hands its y on.
template <class RealType = float>
class MemoryExpert {
 public:
  static constexpr const char* kName = "memory";
  using Real = RealType;
  static constexpr Coupling coupling = Coupling::row_independent;
  static constexpr bool kFreezesPairs = true;
  static constexpr bool kRemembers = true;
  struct Tape {};
  struct Gradients {};

  /// Throws config_error for a width below 1.
  explicit MemoryExpert(Index width) : width_(width) { require_range("width", width, 1, PTRDIFF_MAX); }

  Index experts() const noexcept { return width_ > 0 ? 1 : 0; }
  Index width() const noexcept { return width_; }

  /// Throws shape_error for a carry of another width.
  void check_call(const RouterInput<Real>& in) const {
    if (in.carry) require_extent("carry", "columns", width(), in.carry.cols);
  }

  template <Executor X>
  void forward(const RowBatch<Real>& batch, const RowSink<Real>& sink, Arena&, X&) const {
    require_experts(experts(), batch);
    for (Index s = 0; s < batch.slots(); ++s) sink.result[s] = memory_of(batch, s);
  }
  /// No gradient of x; that of the memory is weight * dy.
  template <Executor X>
  void backward(const RowBatch<Real>& batch, const Tape&, const RowGradients<Real>& rows, Gradients*, Arena&,
                X&) const {
    require_experts(experts(), batch);
    for (Index s = 0; s < batch.slots(); ++s) {
      const Real* const memory = memory_of(batch, s);
      rows.dweight[s] = memory == nullptr ? Real{0} : dot(rows.dy[s], memory, width());
      if (rows.dx.data != nullptr) rows.dx.result[s] = nullptr;
      if (memory == nullptr || rows.dmemory == nullptr) continue;
      axpy_row(rows.weight[s], rows.dy[s], rows.dmemory->row(Index{batch.token[s]}), width());
    }
  }

 private:
  static const Real* memory_of(const RowBatch<Real>& batch, Index s) noexcept {
    return batch.memory == nullptr ? nullptr : batch.memory->row(Index{batch.token[s]});
  }

  impl::Movable<Index> width_;
};

/// It has no weights.
template <class To, class Real>
MemoryExpert<Real> quantise(const MemoryExpert<Real>& bank) {
  return bank;
}

MOE_NAMESPACE_END
