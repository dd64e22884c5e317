// The middle of a soft layer as a value: slots = D rows, results = experts(slots), rows = C results, and
// their backward in reverse. The experts are the same banks as of a routed sum, over rows of slots.
//   rows X[T,D] > 1 mix: D, C > 3 slots = D X > 4 results = experts > 5 Y = C results
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/input.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/expert/concept.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/kernel/row.hpp"
#include "moe/layer/call/scoped.hpp"
#include "moe/plan/mix_table.hpp"
#include "moe/product/row_mix.hpp"
#include "moe/router/soft/concept.hpp"

MOE_NAMESPACE_BEGIN

/// Rows of the slots of a call, in the table's order unless it says otherwise.
template <class Real>
struct SlotRows {
  Index slots = 0;
  Real** row = nullptr;             // [slots] what they read, [D] each
  const Real** result = nullptr;    // [slots] what the experts make of it; null for zeros
  Index* group_begin = nullptr;     // [G + 1] first slot of a group
  Index* expert_begin = nullptr;    // [E + 1] in the experts' order: by expert, then by group
  std::int32_t* slot = nullptr;     // [slots] in the experts' order: which slot
  const Real** in_order = nullptr;  // [slots] in the experts' order: rows
  const Real** results_in_order = nullptr;
  std::uint64_t* key = nullptr;  // [slots] what a slot's expert draws by
  Real* row_data = nullptr;      // [slots, D]
  Real* result_data = nullptr;   // [slots, D]

  static SlotRows carve(Arena& arena, Index slots, Index groups, Index experts, Index width) {
    SlotRows s;
    s.slots = slots;
    s.row = arena.take<Real*>(slots);
    s.result = arena.take<const Real*>(slots);
    s.group_begin = arena.take<Index>(groups + 1);
    s.expert_begin = arena.take<Index>(experts + 1);
    s.slot = arena.take<std::int32_t>(slots);
    s.in_order = arena.take<const Real*>(slots);
    s.results_in_order = arena.take<const Real*>(slots);
    s.key = arena.take<std::uint64_t>(slots);
    const Index size = checked_product("slot rows", slots, row_stride<Real>(width));
    s.row_data = arena.take<Real>(size);
    s.result_data = arena.take<Real>(size);
    return s;
  }
};

/// Soft router and bank; `R&` or `B&` refers to a part that lives elsewhere.
template <class R, class B>
class SoftSum {
  using RouterType = std::remove_reference_t<R>;
  using Bank = std::remove_reference_t<B>;
  static_assert(
      SoftRouter<RouterType>,
      "moe: R is not a SoftRouter; it needs Real, coupling(bool), experts(), width(), extent(shape) "
      "and mix(in, table, arena, executor): moe/router/soft/concept.hpp");
  static_assert(ExpertBank<Bank>,
                "moe: B is not an ExpertBank; it needs Real, coupling, experts(), width() and "
                "forward(batch, sink, arena, executor): docs/add_an_expert.md");
  static_assert(std::is_same_v<typename RouterType::Real, typename Bank::Real>,
                "moe: router and experts must compute in the same type");

 public:
  using Real = typename Bank::Real;
  static constexpr bool kTrainable = TrainableSoftRouter<RouterType> && TrainableExpertBank<Bank>;

  /// What backward needs beside the rows. A forward that is refused leaves it as it was.
  class Tape {
   public:
    const MixTable<Real>& table() const noexcept { return decided().table; }
    const SlotRows<Real>& slots() const noexcept { return slots_; }

   private:
    friend class SoftSum;
    struct Decided {
      Workspace memory;
      impl::Movable<MixTable<Real>> table;
      impl::TapeOf<RouterType> router;
    };
    const Decided& decided() const noexcept { return decided_[current_]; }
    Decided& next() noexcept { return decided_[1 - current_]; }

    Decided decided_[2];  // by turns: a call that is refused has written the other one
    int current_ = 0;
    Workspace slot_memory_;
    impl::Movable<SlotRows<Real>> slots_;
    impl::TapeOf<Bank> experts_;
  };

  /// Throws config_error unless the bank has as many experts as the router.
  SoftSum(R router, B experts) : router_(std::forward<R>(router)), experts_(std::forward<B>(experts)) {
    require_fit<config_error>();
  }

  RouterType& router() noexcept { return router_; }
  const RouterType& router() const noexcept { return router_; }
  Bank& experts() noexcept { return experts_; }
  const Bank& experts() const noexcept { return experts_; }
  Index width() const noexcept { return experts_.width(); }
  /// What the constructor checked: a part may have been replaced since, or moved from: then state_error.
  void require_parts() const {
    impl::require_there("layer", router_.experts() > 0 && experts_.experts() > 0);
    require_fit<state_error>();
  }
  static constexpr Coupling coupling(bool training) noexcept {
    return weakest(RouterType::coupling(training), impl::bank_coupling<Bank>(training));
  }

  // The steps of a call, in order. What a step hands out stays taken; its measure takes the same, or as much
  // as a call of that shape can, from a measuring arena.

  void measure_mix(Arena& arena, const CallShape& shape, Index concurrency) const {
    require_parts();
    MixTable<Real>::carve(arena, shape.tokens, router_.experts(), router_.extent(shape));
    scoped(arena, [&] { impl::measure_of(router_, arena, shape, concurrency); });
  }
  /// The router's table; on a tape, which it then belongs to once decided() is called. Throws what the router
  /// throws, and numeric_error for a row of x that takes part and is not finite: it would be in every slot.
  template <Executor X>
  MixTable<Real> mix(const RouterInput<Real>& in, const ConstMatrixView<Real>& x, Tape* tape, Arena& arena,
                     X& executor) const {
    const Index tokens = in.tokens();
    const MixExtent room = router_.extent({tokens, in.segments.count(tokens), in.options});
    MixTable<Real> table;
    const auto carve = [&](Arena& from) {
      return MixTable<Real>::carve(from, tokens, router_.experts(), room);
    };
    if constexpr (kTrainable) {
      if (tape != nullptr) {
        Arena measuring;
        carve(measuring);
        Arena kept = tape->next().memory.arena(measuring.bytes());
        table = carve(kept);
        scoped(arena, [&] { impl::mix_train_of(router_, in, table, tape->next().router, arena, executor); });
      }
    }
    if (tape == nullptr) {
      table = carve(arena);
      scoped(arena, [&] { router_.mix(in, table, arena, executor); });
    }
    impl::check_call_of(experts_, in);
    for (Index p = 0; p < table.positions(); ++p) {
      const Index t = table.row[p];
      if (!all_finite(x.row(t), x.cols)) {
        fail<numeric_error>("x: expected finite values in rows that are mixed, got others in row ", t);
      }
    }
    if (tape != nullptr) tape->next().table = table;
    return table;
  }
  /// From here on nothing is refused.
  void decided(Tape& tape) const noexcept { tape.current_ = 1 - tape.current_; }

  void measure_experts(Arena& arena, const CallShape& shape, Index concurrency) const {
    const MixExtent room = router_.extent(shape);
    SlotRows<Real>::carve(arena, room.slots, room.groups, router_.experts(), width());
    scoped(arena, [&] {
      arena.take<const Real*>(shape.tokens);
      arena.take<const Real*>(room.slots);
      measure_mix_rows<Real>(arena, room.groups, shape.tokens, width());
    });
    scoped(arena, [&] { impl::measure_of(experts_, arena, room.slots, concurrency); });
  }
  /// Stages 3 and 4, of rows x [T, D].
  template <Executor X>
  SlotRows<Real> run_experts(const RouterInput<Real>& in, const MixTable<Real>& table,
                             const ConstMatrixView<Real>& x, Tape* tape, Arena& arena, X& executor) const {
    SlotRows<Real> slots;
    const auto carve = [&](Arena& from) {
      return SlotRows<Real>::carve(from, table.slots(), table.groups, table.experts, width());
    };
    if (tape != nullptr) {
      Arena measuring;
      carve(measuring);
      Arena kept = tape->slot_memory_.arena(measuring.bytes());
      slots = carve(kept);
      tape->slots_ = slots;
    } else {
      slots = carve(arena);
    }
    order(in, table, slots);
    scoped(arena, [&] {
      const Real** const row = rows_at(table, x, arena);
      const Real** const weight = dispatch_rows(table, table.dispatch, arena);
      mix_rows(to_slots(table, slots, row, weight), slots.row, false, arena, executor);
    });
    const RowSink<Real> sink{slots.result_data, row_stride<Real>(width()), slots.results_in_order};
    RowDraws draws{in.draws, {slots.key, static_cast<std::size_t>(slots.slots)}};
    RowBatch<Real> batch = batch_of(slots);
    if (in.training) batch.draws = &draws;
    scoped(arena, [&] {
      if constexpr (kTrainable) {
        if (tape != nullptr) {
          return impl::forward_train_of(experts_, batch, sink, tape->experts_, arena, executor);
        }
      }
      experts_.forward(batch, sink, arena, executor);
    });
    for (Index i = 0; i < slots.slots; ++i) slots.result[slots.slot[i]] = slots.results_in_order[i];
    return slots;
  }

  void measure_combine(Arena& arena, const CallShape& shape, Index) const {
    const MixExtent room = router_.extent(shape);
    scoped(arena, [&] {
      arena.take<Real*>(shape.tokens);
      arena.take<const Real*>(shape.tokens);
      measure_mix_rows<Real>(arena, room.groups, room.slots, width());
    });
  }
  /// Stage 5: y from results [slots]; rows in no group get 0.
  template <Executor X>
  void combine(const MixTable<Real>& table, const SlotRows<Real>& slots, const Real* const* result,
               const MatrixView<Real>& y, Arena& arena, X& executor) const {
    scoped(arena, [&] {
      for (Index t = 0; t < y.rows; ++t) fill_row(Real{0}, y.row(t), y.cols);
      Real** const out = arena.take<Real*>(table.tokens);
      for (Index p = 0; p < table.positions(); ++p) out[p] = y.row(Index{table.row[p]});
      const Real** const weight = combine_rows_of(table, table.combine, arena);
      mix_rows(to_rows(table, slots, result, weight), out, false, arena, executor);
    });
  }

  void measure_combine_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    const MixExtent room = router_.extent(shape);
    take_slot_gradients(arena, room.slots);
    arena.take<Real>(room.combine);
    scoped(arena, [&] {
      arena.take<const Real*>(shape.tokens);
      arena.take<const Real*>(shape.tokens);
      arena.take<Real*>(shape.tokens);
      measure_mix_weight_gradients<Real>(arena, room.groups, room.slots, width(), concurrency);
    });
    scoped(arena, [&] {
      arena.take<Real>(room.dispatch);
      arena.take<const Real*>(shape.tokens);
      arena.take<const Real*>(shape.tokens);
      arena.take<const Real*>(room.slots);
      arena.take<Real*>(room.slots);
      measure_mix_rows<Real>(arena, room.groups, shape.tokens, width());
    });
  }
  /// Gradients of rows of slots, and of the weights they came by.
  struct SlotGradients {
    Real** row;    // [slots]
    Real* weight;  // as the table's
  };
  /// Of stage 5: of the results and of the table's combine.
  template <Executor X>
  SlotGradients combine_backward(const MixTable<Real>& table, const SlotRows<Real>& slots,
                                 const Real* const* result, const ConstMatrixView<Real>& dy, Arena& arena,
                                 X& executor) const {
    SlotGradients d;
    d.row = take_slot_gradients(arena, slots.slots);
    d.weight = arena.take<Real>(table.room.combine);
    scoped(arena, [&] {
      const Real** const dy_row = rows_at(table, dy, arena);
      const Real** const weight = combine_rows_of(table, table.combine, arena);
      Real** const dweight = arena.take<Real*>(table.tokens);
      each_position(table,
                    [&](Index g, Index r, Index p) { dweight[p] = table.combine_row(d.weight, g, r); });
      mix_weight_gradients(to_rows(table, slots, result, weight), dy_row, dweight, arena, executor);
    });
    scoped(arena, [&] {
      Real* const turned = arena.take<Real>(table.room.dispatch);  // C transposed, laid out as D
      const Real** const dy_row = rows_at(table, dy, arena);
      const Real** const weight = combine_rows_of(table, table.combine, arena);
      const Real** const turned_row = dispatch_rows(table, turned, arena);
      Real** const to = arena.take<Real*>(slots.slots);
      each_slot(table, [&](Index g, Index s, Index i) { to[i] = table.dispatch_row(turned, g, s); });
      transpose_weights(to_rows(table, slots, result, weight), weight, to, executor);
      mix_rows(to_slots(table, slots, dy_row, turned_row), d.row, false, arena, executor);
    });
    return d;
  }

  void measure_experts_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    const MixExtent room = router_.extent(shape);
    arena.take<Real>(room.dispatch);
    arena.take<const Real*>(room.slots);
    arena.take<Real>(checked_product("slot gradients", room.slots, row_stride<Real>(width())));
    arena.take<Real>(row_stride<Real>(width()));
    scoped(arena, [&] {
      arena.take<const Real*>(room.slots);
      arena.take<const Real*>(room.slots);
      arena.take<Real>(room.slots);
      arena.take<Real>(room.slots);
      impl::measure_backward_of(experts_, arena, room.slots, concurrency);
    });
    scoped(arena, [&] {
      arena.take<const Real*>(shape.tokens);
      arena.take<const Real*>(room.slots);
      arena.take<Real*>(room.slots);
      measure_mix_weight_gradients<Real>(arena, room.groups, shape.tokens, width(), concurrency);
    });
    scoped(arena, [&] {
      arena.take<Real>(room.combine);
      arena.take<Real*>(shape.tokens);
      arena.take<const Real*>(room.slots);
      arena.take<Real*>(shape.tokens);
      measure_mix_rows<Real>(arena, room.groups, room.slots, width());
    });
  }
  /// Of stages 4 and 3, from the gradients of the results [slots]: the bank's, added to, dx [T, D] (or
  /// absent), overwritten, and that of the table's dispatch, which it returns.
  template <Executor X>
  Real* experts_backward(const Tape& tape, const ConstMatrixView<Real>& x, const Real* const* dresult,
                         const MatrixView<Real>& dx, impl::GradientsOf<Bank>* gradients, Arena& arena,
                         X& executor) const requires kTrainable {
    const MixTable<Real>& table = tape.table();
    const SlotRows<Real>& slots = tape.slots();
    Real* const ddispatch = arena.take<Real>(table.room.dispatch);
    const Real** const dslot = arena.take<const Real*>(slots.slots);  // of the rows that slots read
    const Index stride = row_stride<Real>(width());
    Real* const storage = arena.take<Real>(slots.slots * stride);
    Real* const zeros = arena.take<Real>(stride);
    fill_row(Real{0}, zeros, stride);
    scoped(arena, [&] {
      const Real** const dy = arena.take<const Real*>(slots.slots);
      const Real** const dx_row = arena.take<const Real*>(slots.slots);
      Real* const one = arena.take<Real>(slots.slots);
      Real* const dweight = arena.take<Real>(slots.slots);
      const RowSink<Real> sink{storage, stride, dx_row};
      for (Index i = 0; i < slots.slots; ++i) {
        dy[i] = dresult[slots.slot[i]];
        dx_row[i] = sink.row(i);
        one[i] = 1;
      }
      experts_.backward(batch_of(slots), tape.experts_, RowGradients<Real>{dy, one, dweight, sink}, gradients,
                        arena, executor);
      for (Index i = 0; i < slots.slots; ++i) {
        dslot[slots.slot[i]] = dx_row[i] == nullptr ? zeros : dx_row[i];
      }
    });
    scoped(arena, [&] {
      const Real** const row = rows_at(table, x, arena);
      const Real** const weight = dispatch_rows(table, table.dispatch, arena);
      Real** const dweight = arena.take<Real*>(slots.slots);
      each_slot(table, [&](Index g, Index s, Index i) { dweight[i] = table.dispatch_row(ddispatch, g, s); });
      mix_weight_gradients(to_slots(table, slots, row, weight), dslot, dweight, arena, executor);
    });
    if (dx) {
      scoped(arena, [&] {
        for (Index t = 0; t < dx.rows; ++t) fill_row(Real{0}, dx.row(t), dx.cols);
        Real* const turned = arena.take<Real>(table.room.combine);  // D transposed, laid out as C
        Real** const to = arena.take<Real*>(table.tokens);
        each_position(table, [&](Index g, Index r, Index p) { to[p] = table.combine_row(turned, g, r); });
        const Real** const weight = dispatch_rows(table, table.dispatch, arena);
        transpose_weights(to_slots(table, slots, nullptr, weight), weight, to, executor);
        Real** const out = arena.take<Real*>(table.tokens);
        for (Index p = 0; p < table.positions(); ++p) out[p] = dx.row(Index{table.row[p]});
        mix_rows(to_rows(table, slots, dslot, to), out, false, arena, executor);
      });
    }
    return ddispatch;
  }

  void measure_mix_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    scoped(arena, [&] { impl::measure_backward_of(router_, arena, shape, concurrency); });
  }
  /// Of stage 1.
  template <Executor X>
  void mix_backward(const Tape& tape, const RouterInput<Real>& in, const MixGradients<Real>& out,
                    impl::GradientsOf<RouterType>* gradients, Arena& arena,
                    X& executor) const requires kTrainable {
    scoped(arena, [&] {
      router_.backward(in, tape.table(), tape.decided().router, out, gradients, arena, executor);
    });
  }

 private:
  template <class Error>
  void require_fit() const {
    const Index routed = router_.experts(), banked = experts_.experts();
    if (routed != banked) {
      fail<Error>("layer: expected as many experts in the bank as the router has, ", routed, ", got ",
                  banked);
    }
  }

  /// f(group, place, position) for all rows that mix; f(group, place, slot) for all slots.
  template <class F>
  static void each_position(const MixTable<Real>& table, const F& f) {
    for (Index g = 0, p = 0; g < table.groups; ++g) {
      for (Index r = 0; r < table.rows(g); ++r, ++p) f(g, r, p);
    }
  }
  template <class F>
  static void each_slot(const MixTable<Real>& table, const F& f) {
    for (Index g = 0, i = 0; g < table.groups; ++g) {
      for (Index s = 0; s < table.slots(g); ++s, ++i) f(g, s, i);
    }
  }

  static const Real** rows_at(const MixTable<Real>& table, const ConstMatrixView<Real>& x, Arena& arena) {
    const Real** const row = arena.take<const Real*>(table.tokens);
    for (Index p = 0; p < table.positions(); ++p) row[p] = x.row(Index{table.row[p]});
    return row;
  }
  /// The weights of every slot, and of every row; `from`: the table's, or laid out as they are.
  static const Real** dispatch_rows(const MixTable<Real>& table, Real* from, Arena& arena) {
    const Real** const row = arena.take<const Real*>(table.slots());
    each_slot(table, [&](Index g, Index s, Index i) { row[i] = table.dispatch_row(from, g, s); });
    return row;
  }
  static const Real** combine_rows_of(const MixTable<Real>& table, Real* from, Arena& arena) {
    const Real** const row = arena.take<const Real*>(table.tokens);
    each_position(table, [&](Index g, Index r, Index p) { row[p] = table.combine_row(from, g, r); });
    return row;
  }
  RowMix<Real> to_slots(const MixTable<Real>& table, const SlotRows<Real>& slots, const Real* const* in,
                        const Real* const* weight) const noexcept {
    return {table.groups, table.offsets, slots.group_begin, in, weight, width()};
  }
  RowMix<Real> to_rows(const MixTable<Real>& table, const SlotRows<Real>& slots, const Real* const* in,
                       const Real* const* weight) const noexcept {
    return {table.groups, slots.group_begin, table.offsets, in, weight, width()};
  }

  /// [slots] rows of scratch.
  Real** take_slot_gradients(Arena& arena, Index slots) const {
    Real** const row = arena.take<Real*>(slots);
    Real* const data = arena.take<Real>(checked_product("slot gradients", slots, row_stride<Real>(width())));
    for (Index i = 0; row != nullptr && i < slots; ++i) row[i] = data + i * row_stride<Real>(width());
    return row;
  }

  /// The slots' places, rows and order for the experts.
  void order(const RouterInput<Real>& in, const MixTable<Real>& table, SlotRows<Real>& slots) const noexcept {
    const Index stride = row_stride<Real>(width());
    for (Index g = 0; g < table.groups; ++g) slots.group_begin[g] = table.first_slot(g);
    slots.group_begin[table.groups] = table.slots();
    each_slot(table, [&](Index g, Index s, Index i) {
      slots.row[i] = slots.row_data + i * stride;
      // Of its group's first row, so that a group draws the same in any batch.
      const std::uint64_t first = in.key(Index{table.row[table.offsets[g]]});
      slots.key[i] = (first + 1) * 0x9E3779B97F4A7C15u + static_cast<std::uint64_t>(s);
    });
    Index next = 0;
    for (Index e = 0; e < table.experts; ++e) {
      slots.expert_begin[e] = next;
      for (Index g = 0; g < table.groups; ++g) {
        const Index* const begin = table.slot_offsets + g * table.experts + e;
        for (Index i = begin[0]; i < begin[1]; ++i, ++next) {
          slots.slot[next] = static_cast<std::int32_t>(i);
          slots.in_order[next] = slots.row[i];
          slots.results_in_order[next] = slots.result_data + next * stride;
        }
      }
    }
    slots.expert_begin[table.experts] = next;
  }
  RowBatch<Real> batch_of(const SlotRows<Real>& slots) const noexcept {
    return {slots.in_order, slots.slot, slots.expert_begin, Index{router_.experts()}};
  }

  R router_;
  B experts_;
};

MOE_NAMESPACE_END
