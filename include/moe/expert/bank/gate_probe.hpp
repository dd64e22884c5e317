// The gates of a bank of gated experts as probes: Wg_e x of every row and expert, and its length, which says
// how strongly the expert answers to the row. What couples routers and experts
// (layer/probe/coupling_loss.hpp).
#pragma once

#include <algorithm>

#include "moe/core/executor.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/probes.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/concept.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/kernel/row.hpp"
#include "moe/product/grouped.hpp"
#include "moe/product/grouped_outer.hpp"
#include "moe/product/grouped_transposed.hpp"
#include "moe/router/vector_length.hpp"
#include "moe/storage/storage.hpp"

MOE_NAMESPACE_BEGIN

/// Refers to a bank, and probes as a ProbingBank does; biases are left out. Probes have F numbers, response
/// |Wg_e x|, whose gradient goes to the gate projections alone.
template <class Act, class Storage = float>
class GateProbe {
  using Bank = Glu<Act, Storage>;
  static_assert(DenseStorage<Storage>, "moe: gates of a block storage have no gradient");

 public:
  using Real = typename Bank::Real;
  using Gradients = typename Bank::Gradients;
  struct ProbeTape {};

  explicit GateProbe(const Bank& bank) noexcept : bank_(&bank) {}

  Index experts() const noexcept { return bank_->experts(); }
  Index width() const noexcept { return bank_->width(); }
  /// F.
  Index probe_width() const noexcept { return bank_->hidden(); }

  Probes<Real> carve_probes(Arena& arena, Index tokens) const {
    return Probes<Real>::by_expert(arena, tokens, experts(), probe_width(), row_stride<Real>(probe_width()));
  }
  void measure_probe(Arena& arena, Index tokens, Index) const { Scratch{arena, *this, tokens}; }
  void measure_probe_backward(Arena& arena, Index tokens, Index concurrency) const {
    BackwardScratch{arena, *this, tokens, concurrency};
  }

  template <Executor X>
  void probe(const ProbeRows<Real>& in, const Probes<Real>& probes, Arena& arena, X& executor) const {
    const Index tokens = probes.tokens();
    const Scratch scratch(arena, *this, tokens);
    scratch.point_at(in, experts());
    const auto& parameters = bank_->parameters();
    grouped_gemm<native_arch>(
        scratch.row, scratch.offsets, experts(), [&](Index e) noexcept { return parameters.first(e); },
        [&](Index e, Index first, Index m, Index panel, const Real* tile) noexcept {
          const Index column = panel * kHalf<Real>, count = (std::min)(kHalf<Real>, probe_width() - column);
          for (Index i = 0; i < m; ++i)
            copy_row(tile + i * kPanel<Real>, probes.of(in.rows[first + i - scratch.offsets[e]], e) + column,
                     count);
        },
        scratch.tasks, executor);
    for (Index t = 0; t < tokens; ++t) fill_row(Real{0}, probes.response.row(t), experts());
    executor.parallel_for(in.count, [&](Index a, Index) noexcept {
      const Index t = in.rows[a];
      for (Index e = 0; e < experts(); ++e) {
        const Real length = impl::length_of(probes.of(t, e), probe_width());
        probes.response(t, e) = length == static_cast<Real>(impl::kShortestLength) ? Real{0} : length;
      }
    });
  }

  /// d |v| = v / |v|, of a gate of 0: 0. Throws shape_error for gradients of another bank.
  template <Executor X>
  void probe_backward(const ProbeRows<Real>& in, const ProbeTape&, const Probes<Real>& probes,
                      const Probes<Real>& dprobes, const MatrixView<Real>& dx, Gradients* gradients,
                      Arena& arena, X& executor) const {
    impl::check_gradients_of(*bank_, gradients);
    const BackwardScratch scratch(arena, *this, probes.tokens(), executor.concurrency());
    scratch.asked.point_at(in, experts());
    const auto& parameters = bank_->parameters();
    const Index slots = experts() * in.count, positions = parameters.bias_positions();
    executor.parallel_for(slots, [&](Index s, Index) noexcept {
      const Index e = s / in.count, t = in.rows[s % in.count];
      Real *const own = dprobes.of(t, e), *const to = scratch.dpre + s * scratch.stride;
      const Real length = probes.response(t, e);
      if (length > 0) axpy_row(dprobes.response(t, e) / length, probes.of(t, e), own, probe_width());
      fill_row(Real{0}, to, positions);  // gate | up, panel by panel: nothing comes through up
      for (Index column = 0; column < probe_width(); column += kHalf<Real>) {
        copy_row(own + column, to + column / kHalf<Real> * kPanel<Real>,
                 (std::min)(kHalf<Real>, probe_width() - column));
      }
      scratch.dpre_row[s] = to;
    });
    if (gradients != nullptr) {
      grouped_outer<native_arch>(scratch.asked.row, width(), scratch.dpre_row, positions,
                                 scratch.asked.offsets, experts(), gradients->weights().first,
                                 scratch.asked.tasks, scratch.panels, executor);
    }
    if (!dx) return;
    grouped_gemm_transposed<native_arch>(
        scratch.dpre_row, positions, scratch.asked.offsets, experts(),
        [&](Index e) noexcept { return parameters.first(e); },
        [&](Index, Index first, Index m, Index block, const Real* tile) noexcept {
          const Index column = block * kPanel<Real>, count = (std::min)(kPanel<Real>, width() - column);
          for (Index i = 0; i < m; ++i)
            copy_row(tile + i * kPanel<Real>, scratch.dx + (first + i) * scratch.dx_stride + column, count);
        },
        scratch.asked.tasks, scratch.panels, executor);
    executor.parallel_for(in.count, [&](Index a, Index) noexcept {
      for (Index e = 0; e < experts(); ++e)
        add_row(scratch.dx + (e * in.count + a) * scratch.dx_stride, dx.row(Index{in.rows[a]}), width());
    });
  }

 private:
  struct Scratch {
    const Real** row;  // [E T]
    Index* offsets;    // [E + 1]
    Index* tasks;
    Scratch(Arena& arena, const GateProbe& own, Index tokens)
        : row(arena.take<const Real*>(checked_product("experts x rows", own.experts(), tokens))),
          offsets(arena.take<Index>(own.experts() + 1)),
          tasks(arena.take<Index>(task_list_size(own.experts()))) {}
    /// The listed rows, for every expert.
    void point_at(const ProbeRows<Real>& in, Index experts) const noexcept {
      for (Index e = 0; e <= experts; ++e) offsets[e] = e * in.count;
      for (Index s = 0; s < experts * in.count; ++s) row[s] = in.x.row(Index{in.rows[s % in.count]});
    }
  };
  struct BackwardScratch {
    Scratch asked;
    Index stride, dx_stride;
    const Real** dpre_row;  // [E T]
    Real* dpre;             // [E T, positions]
    Real* dx;               // [E T, D]
    Real* panels;           // [concurrency * grouped_scratch]
    BackwardScratch(Arena& arena, const GateProbe& own, Index tokens, Index concurrency)
        : asked(arena, own, tokens),
          stride(row_stride<Real>(own.bank_->parameters().bias_positions())),
          dx_stride(row_stride<Real>(own.width())) {
      const Index slots = own.experts() * tokens;
      dpre_row = arena.take<const Real*>(slots);
      dpre = arena.take<Real>(checked_product("gradients of gates", slots, stride));
      dx = arena.take<Real>(checked_product("gradients of rows", slots, dx_stride));
      panels = arena.take<Real>(checked_product("panels", concurrency, grouped_scratch<Real>()));
    }
  };

  const Bank* bank_;
};

template <class Act, class Storage>
GateProbe(const Glu<Act, Storage>&) -> GateProbe<Act, Storage>;

MOE_NAMESPACE_END
