// Experts that each read the row through a gate of their own: z = f_e(x o 2 sigmoid(B_e A_e x)), A_e [r, D],
// B_e [D, r]. The feature gates of HoME (of Kuaishou), Wang et al. 2408.05430.
#pragma once

#include <cstdint>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/expert/concept.hpp"
#include "moe/expert/slot_tasks.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/kernel/row.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

/// Inner's experts behind gates of rank r. Gates of 0 leave the row as it is, bit for bit. Parameters
/// "feature_gate.experts.<e>.fc1.weight" A_e and "feature_gate.experts.<e>.fc2.weight" B_e, then Inner's.
template <TrainableExpertBank Inner>
class FeatureGated {
  using Map = Mlp<Identity, typename Inner::Real>;
  static constexpr const char* kGate = "feature_gate.";

 public:
  static constexpr const char* kName = "feature_gated";
  using Real = typename Inner::Real;
  static constexpr Coupling coupling = Inner::coupling;
  static constexpr Coupling inference_coupling = impl::bank_coupling<Inner>(false);
  static constexpr bool kFreezesPairs = impl::kFreezesPairs<Inner>;

  struct Tape {
    Buffer<Real> map;  // [P, D] B A x
    Buffer<Real> row;  // [P, D] what Inner read
    typename Map::Tape gate;
    typename Inner::Tape inner;
  };
  struct Gradients {
    impl::GradientsOf<Map> gate;
    impl::GradientsOf<Inner> inner;
  };

  /// Gates of 0. Throws config_error for a rank below 1.
  FeatureGated(Inner inner, Index rank)
      : inner_(std::move(inner)),
        gate_({.experts = inner_.experts(), .width = inner_.width(), .hidden = rank}) {}

  Index experts() const noexcept { return inner_.experts(); }
  Index width() const noexcept { return inner_.width(); }
  Index output_width() const noexcept { return impl::output_width_of(inner_); }
  /// r
  Index rank() const noexcept { return gate_.hidden(); }
  Inner& inner() noexcept { return inner_; }
  const Inner& inner() const noexcept { return inner_; }
  Map& gate() noexcept { return gate_; }
  const Map& gate() const noexcept { return gate_; }

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
    Scratch{arena, pairs, width(), false};
    measure_inside(arena, [&] { impl::measure_of(gate_, arena, pairs, concurrency); });
    impl::measure_of(inner_, arena, pairs, concurrency);
  }
  void measure_backward(Arena& arena, Index pairs, Index concurrency) const {
    BackwardScratch{arena, pairs, width()};
    measure_inside(arena, [&] { impl::measure_backward_of(inner_, arena, pairs, concurrency); });
    impl::measure_backward_of(gate_, arena, pairs, concurrency);
  }

  template <Executor X>
  void forward(const RowBatch<Real>& batch, const RowSink<Real>& sink, Arena& arena, X& executor) const {
    require_experts(experts(), batch);
    const Scratch scratch(arena, batch.slots(), width(), false);
    measure_inside(arena, [&] { gate_.forward(batch, scratch.sink(scratch.map, width()), arena, executor); });
    inner_.forward(gated(batch, scratch, scratch.map, scratch.row, executor), sink, arena, executor);
  }
  template <Executor X>
  void forward_train(const RowBatch<Real>& batch, const RowSink<Real>& sink, Tape& tape, Arena& arena,
                     X& executor) const {
    require_experts(experts(), batch);
    const Index size = checked_product("tape", batch.slots(), width());
    const Scratch scratch(arena, batch.slots(), width(), true);
    Real *const map = tape.map.resize(size), *const row = tape.row.resize(size);
    measure_inside(
        arena, [&] { gate_.forward_train(batch, scratch.sink(map, width()), tape.gate, arena, executor); });
    impl::forward_train_of(inner_, gated(batch, scratch, map, row, executor), sink, tape.inner, arena,
                           executor);
  }

  /// With dz = weight * dy: dweight, dx (unless dx.data is null) and gradients (unless null) of slots that
  /// are not frozen. Throws state_error for the tape of another batch, shape_error for gradients of another
  /// bank.
  template <Executor X>
  void backward(const RowBatch<Real>& batch, const Tape& tape, const RowGradients<Real>& rows,
                Gradients* gradients, Arena& arena, X& executor) const {
    require_experts(experts(), batch);
    const Index slots = batch.slots(), d = width();
    if (tape.map.size() != slots * d || tape.row.size() != slots * d) {
      fail<state_error>("expert tape: expected the tape of this bank and a batch of ", slots,
                        " rows, got one of ", tape.row.size() / d);
    }
    impl::check_gradients_of(*this, gradients);
    const bool wanted = rows.dx.data != nullptr || gradients != nullptr;
    const BackwardScratch scratch(arena, slots, d);
    RowBatch<Real> read = batch;
    read.tokens = 0;
    for (Index s = 0; s < slots; ++s) scratch.read[s] = tape.row.data() + s * d;
    read.row = scratch.read;
    RowGradients<Real> at_inner = rows;
    at_inner.dx = wanted ? RowSink<Real>{scratch.drow, d, scratch.drow_of} : RowSink<Real>{};
    for (Index s = 0; s < slots; ++s) scratch.drow_of[s] = scratch.drow + s * d;
    measure_inside(arena, [&] {
      inner_.backward(read, tape.inner, at_inner, gradients == nullptr ? nullptr : &gradients->inner, arena,
                      executor);
    });
    if (!wanted) return;
    for_each_slot(batch, executor, [&](Index, Index s) noexcept {
      Real* const dmap = scratch.dmap + s * d;
      activate_row(Sigmoid{}, tape.map.data() + s * d, dmap, d);
      for (Index j = 0; j < d; ++j) {
        const Real g = scratch.drow_of[s] == nullptr ? Real{0} : 2 * scratch.drow_of[s][j];
        const Real share = dmap[j];
        dmap[j] = g * batch.row[s][j] * share * (1 - share);
        scratch.drow[s * d + j] = g * share;
      }
      scratch.read[s] = dmap;
      scratch.one[s] = 1;
    });
    RowGradients<Real> at_gate = rows;
    at_gate.dy = scratch.read;
    at_gate.weight = scratch.one;
    at_gate.dweight = scratch.dweight;
    gate_.backward(batch, tape.gate, at_gate, gradients == nullptr ? nullptr : &gradients->gate, arena,
                   executor);
    for (Index s = 0; rows.dx.data != nullptr && s < slots; ++s) {
      add_row(scratch.drow + s * d, rows.dx.row(s), d);
    }
  }

  Gradients make_gradients() const { return {gate_.make_gradients(), impl::make_gradients_of(inner_)}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f) {
    auto named = [&](auto parameter) {
      const ParameterName name(kGate, parameter.name);
      parameter.name = name.c_str();
      f(parameter);
    };
    impl::visit_parameters_of(gate_, gradients == nullptr ? nullptr : &gradients->gate, named);
    impl::visit_parameters_of(inner_, gradients == nullptr ? nullptr : &gradients->inner, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor&& f) {
    auto named = [&](const char* name, auto... range) { f(ParameterName(kGate, name).c_str(), range...); };
    impl::visit_storage_of(gate_, gradients == nullptr ? nullptr : &gradients->gate, named);
    impl::visit_storage_of(inner_, gradients == nullptr ? nullptr : &gradients->inner, f);
  }
  template <class Visitor>
  void visit_packed(Visitor&& f) {
    impl::visit_packed_of(inner_, f);
  }
  template <class Visitor>
  void visit_state(Visitor& f) {
    impl::visit_state_of(inner_, f);
  }
  template <class Visitor>
  void visit_state(Visitor& f) const {
    impl::visit_state_of(inner_, f);
  }

 private:
  struct Scratch {
    const Real** row_of;  // [P]
    Real* map;            // [P, D] unless on the tape, as is:
    Real* row;            // [P, D]
    Scratch(Arena& arena, Index slots, Index width, bool taped)
        : row_of(arena.take<const Real*>(slots)),
          map(taped ? nullptr : arena.take<Real>(checked_product("gates", slots, width))),
          row(taped ? nullptr : arena.take<Real>(checked_product("gated rows", slots, width))),
          slots_(arena.measuring() ? 0 : slots) {}
    RowSink<Real> sink(Real* to, Index width) const noexcept {
      for (Index s = 0; s < slots_; ++s) row_of[s] = to + s * width;
      return {to, width, row_of};
    }

   private:
    Index slots_;
  };
  struct BackwardScratch {
    const Real** read;     // [P] what Inner read, then what arrives at the gates
    const Real** drow_of;  // [P]
    Real* drow;            // [P, D]
    Real* dmap;            // [P, D]
    Real* one;             // [P]
    Real* dweight;         // [P] that nobody reads
    BackwardScratch(Arena& arena, Index slots, Index width)
        : read(arena.take<const Real*>(slots)),
          drow_of(arena.take<const Real*>(slots)),
          drow(arena.take<Real>(checked_product("gated gradients", slots, width))),
          dmap(arena.take<Real>(checked_product("gate gradients", slots, width))),
          one(arena.take<Real>(slots)),
          dweight(arena.take<Real>(slots)) {}
  };

  template <class F>
  static void measure_inside(Arena& arena, const F& f) {
    const Index mark = arena.mark();
    f();
    arena.rewind(mark);
  }
  /// `map` is what the sink of Scratch was of.
  template <class X>
  RowBatch<Real> gated(const RowBatch<Real>& batch, const Scratch& scratch, const Real* map, Real* row,
                       X& executor) const noexcept {
    const Index d = width();
    for_each_slot(batch, executor, [&](Index, Index s) noexcept {
      activate_row(Sigmoid{}, map + s * d, row + s * d, d);
      for (Index j = 0; j < d; ++j) row[s * d + j] *= 2 * batch.row[s][j];
      scratch.row_of[s] = row + s * d;
    });
    RowBatch<Real> own = batch;
    own.row = scratch.row_of;
    own.tokens = 0;
    return own;
  }

  Inner inner_;
  Map gate_;
};

MOE_NAMESPACE_END
