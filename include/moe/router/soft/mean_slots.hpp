// Slots that the rows make themselves: a slot's direction is a map of the mean of some consecutive rows,
// under a root-mean-square norm, and logits are its products with the normed rows. The two routers of
// Mamba-HoME (arXiv:2507.06363), after the authors' code.
#pragma once

#include <algorithm>
#include <cstdint>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/kernel/rms_norm.hpp"
#include "moe/kernel/row.hpp"
#include "moe/product/projection.hpp"
#include "moe/product/row_mix.hpp"
#include "moe/router/call_options.hpp"
#include "moe/router/soft/concept.hpp"
#include "moe/router/soft/mix_softmax.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

struct MeanSlotsOptions {
  Index width = 0;    // D
  Index experts = 0;  // E
  Index slots = 1;    // of an expert for each mean
  Index block = 0;    // consecutive rows of a segment that have a mean together; its last one may be of fewer
  bool blocks_mix = true;  // false: all rows of a segment, with the slots of all of its means
  MixWeights weights = MixWeights::slots;
  bool norm_rows = true;  // false: rows come normed
  NonFinite non_finite = NonFinite::throw_;
};

/// Parameters "norm" [1, D] of the rows, where they are normed, "slots.weight" [E S D, D] and "slots.norm"
/// [1, D]. Rows that take no part are in no mean. A row that is not finite throws or is isolated; logits that
/// are not finite though their rows are throw, for they come from parameters or from means. Obeys no option
/// of a call and no logit mask.
template <class RealType>
class MeanSlots {
 public:
  using Real = RealType;
  using Options = MeanSlotsOptions;
  static constexpr const char* kName = "mean_slots";
  struct Gradients {
    Buffer<Real> norm;  // [D] or empty
    typename Projection<Real>::Gradients slots;
    Buffer<Real> slot_norm;  // [D]
  };

 private:
  /// What the logits are made of. J means, in the order of their rows' positions.
  struct Arrays {
    Index means = 0;             // J
    Index* mean_offsets;         // [J + 1] positions of a mean
    Index* group_means;          // [G + 1] means of a group
    Index* group_slots;          // [G + 1]
    MatrixView<Real> mean;       // [J, D]
    MatrixView<Real> map;        // [J, E S D]
    MatrixView<Real> row;        // [positions, D] normed
    MatrixView<Real> direction;  // [slots, D] normed
    static MatrixView<Real> matrix(Arena& arena, Index rows, Index cols) {
      MatrixView<Real> view;
      view.data = arena.take<Real>(checked_product("slots", rows, row_stride<Real>(cols)));
      view.rows = rows;
      view.cols = cols;
      view.stride = row_stride<Real>(cols);
      return view;
    }
  };

 public:
  struct Tape {
    impl::Writer writer;
    Workspace memory;
    impl::Movable<Arrays> arrays;
  };
  static constexpr Coupling coupling(bool) noexcept { return Coupling::per_segment; }

  /// Throws config_error for sizes below 1.
  explicit MeanSlots(const Options& options)
      : options_(checked(options)),
        map_(options.width, checked_product("slots", options.experts, options.slots, options.width), false) {
    norm_.assign(options.norm_rows ? options.width : 0, Real{1});
    slot_norm_.assign(options.width, Real{1});
  }

  Index experts() const noexcept { return options_->experts; }
  Index width() const noexcept { return options_->width; }
  const Options& options() const noexcept { return options_; }
  void initialise(std::uint64_t seed) { map_.initialise(seed); }

  MixExtent extent(const CallShape& shape) const {
    require_parts();
    const Index means = most_means(shape), each = experts() * options_->slots;
    if (options_->blocks_mix) return mix_extent<Real>(shape.tokens, means, each);
    MixExtent extent;
    extent.groups = (std::min)(shape.segments, shape.tokens);
    extent.slots = checked_product("slots", means, each);
    const Index padding = 2 * kHalf<Real>;  // row_stride adds less
    extent.dispatch = checked_product("dispatch weights", extent.slots, shape.tokens + padding);
    extent.combine = checked_product("combine weights", shape.tokens, extent.slots + padding);
    return extent;
  }
  void measure(Arena& arena, const CallShape& shape, Index concurrency) const {
    arena.take<bool>(shape.tokens);
    carve(arena, shape);
    const MixExtent room = extent(shape);
    map_.measure(arena, most_means(shape));
    arena.take<const Real*>(shape.tokens);
    arena.take<const Real*>(room.slots);
    arena.take<Real*>(shape.tokens);
    measure_mix_weight_gradients<Real>(arena, room.groups, room.slots, width(), concurrency);
  }
  void measure_backward(Arena& arena, const CallShape& shape, Index concurrency) const {
    const MixExtent room = extent(shape);
    const Index means = most_means(shape);
    arena.take<Real>(room.combine);
    arena.take<Real>(room.dispatch);
    Arrays::matrix(arena, shape.tokens, width());
    Arrays::matrix(arena, room.slots, width());
    Arrays::matrix(arena, means, map_.out());
    Arrays::matrix(arena, means, width());
    for (int i = 0; i < 2; ++i) {
      arena.take<const Real*>(shape.tokens);
      arena.take<const Real*>(room.slots);
      arena.take<Real*>(shape.tokens);
      arena.take<Real*>(room.slots);
    }
    const Index mark = arena.mark();
    measure_mix_rows<Real>(arena, room.groups, room.slots, width());
    arena.rewind(mark);
    measure_mix_rows<Real>(arena, room.groups, shape.tokens, width());
    arena.rewind(mark);
    map_.measure_backward(arena, means, concurrency);
  }

  template <Executor X>
  void mix(const RouterInput<Real>& in, MixTable<Real>& table, Arena& arena, X& executor) const {
    check(in);
    bool* const active = arena.take<bool>(in.tokens());
    Arrays a = carve(arena, shape_of(in));
    run(in, table, active, a, arena, executor);
  }
  template <Executor X>
  void mix_train(const RouterInput<Real>& in, MixTable<Real>& table, Tape& tape, Arena& arena,
                 X& executor) const {
    check(in);
    tape.writer.clear();
    bool* const active = arena.take<bool>(in.tokens());
    Arena measuring;
    carve(measuring, shape_of(in));
    Arena kept = tape.memory.arena(measuring.bytes());
    Arrays a = carve(kept, shape_of(in));
    run(in, table, active, a, arena, executor);
    tape.arrays = a;
    tape.writer.set(identity_);
  }

  template <Executor X>
  void backward(const RouterInput<Real>& in, const MixTable<Real>& table, const Tape& tape,
                const MixGradients<Real>& out, Gradients* gradients, Arena& arena, X& executor) const {
    require_parts();
    tape.writer.require("router tape", identity_);
    impl::check_gradients_of(*this, gradients);
    const Arrays& a = tape.arrays;
    const Index slots = table.slots(), d = width();
    Real* const dlogit = arena.take<Real>(table.room.combine);
    Real* const turned = arena.take<Real>(table.room.dispatch);
    const MatrixView<Real> drow = Arrays::matrix(arena, in.tokens(), d);
    const MatrixView<Real> ddirection = Arrays::matrix(arena, slots, d);
    const MatrixView<Real> dmap = Arrays::matrix(arena, a.means, map_.out());
    const MatrixView<Real> dmean = Arrays::matrix(arena, a.means, d);
    impl::mix_softmax_backward(
        table, options_->weights, out,
        [&](Index g, Index r) noexcept { return table.combine_row(dlogit, g, r); }, turned, executor);
    const Real** const weight = arena.take<const Real*>(in.tokens());
    const Real** const row = arena.take<const Real*>(in.tokens());
    const Real** const direction = arena.take<const Real*>(slots);
    const Real** const turned_row = arena.take<const Real*>(slots);
    Real** const drow_at = arena.take<Real*>(in.tokens());
    Real** const ddirection_at = arena.take<Real*>(slots);
    Real** const turned_at = arena.take<Real*>(slots);
    for (Index g = 0, p = 0, s = 0; g < table.groups; ++g) {
      for (Index r = 0; r < table.rows(g); ++r, ++p) {
        weight[p] = table.combine_row(dlogit, g, r);
        row[p] = a.row.row(p);
        drow_at[p] = drow.row(p);
      }
      for (Index i = 0; i < table.slots(g); ++i, ++s) {
        direction[s] = a.direction.row(s);
        ddirection_at[s] = ddirection.row(s);
        turned_row[s] = turned_at[s] = table.dispatch_row(turned, g, i);
      }
    }
    const RowMix<Real> to_rows{table.groups, a.group_slots, table.offsets, direction, weight, d};
    transpose_weights(to_rows, weight, turned_at, executor);
    const Index mark = arena.mark();
    mix_rows(to_rows, drow_at, false, arena, executor);
    arena.rewind(mark);
    mix_rows(RowMix<Real>{table.groups, table.offsets, a.group_slots, row, turned_row, d}, ddirection_at,
             false, arena, executor);
    arena.rewind(mark);

    for (Index j = 0; j < a.means; ++j) {
      fill_row(Real{0}, dmap.row(j), map_.out());
      fill_row(Real{0}, dmean.row(j), d);
    }
    Real* const dslot_norm = gradients == nullptr ? nullptr : gradients->slot_norm.data();
    each_slot(table, a, [&](Index s, Index j, Index part) {  // ascending: sums over slots have one order
      rms_norm_backward_row(a.map.row(j) + part * d, slot_norm_.data(), Real{1}, eps(), ddirection.row(s),
                            dslot_norm, dmap.row(j) + part * d, d);
    });
    map_.backward(a.mean, dmap, out.dx ? dmean : MatrixView<Real>{},
                  gradients == nullptr ? nullptr : &gradients->slots, arena, executor);
    for (Index j = 0; j < a.means; ++j) {
      const auto share = Real{1} / static_cast<Real>(a.mean_offsets[j + 1] - a.mean_offsets[j]);
      for (Index p = a.mean_offsets[j]; p < a.mean_offsets[j + 1]; ++p) {
        const Index t = table.row[p];
        Real* const dx = out.dx ? out.dx.row(t) : nullptr;
        if (dx != nullptr) axpy_row(share, dmean.row(j), dx, d);
        if (norm_.empty()) {
          if (dx != nullptr) add_row(drow.row(p), dx, d);
          continue;
        }
        rms_norm_backward_row(in.x.row(t), norm_.data(), Real{1}, eps(), drow.row(p),
                              gradients == nullptr ? nullptr : gradients->norm.data(), dx, d);
      }
    }
  }

  Gradients make_gradients() const {
    return {Buffer<Real>(norm_.size()), map_.make_gradients(), Buffer<Real>(slot_norm_.size())};
  }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    const auto vector = [&](const char* name, Buffer<Real>& values, Buffer<Real> Gradients::*own) {
      if (values.empty()) return;
      f(Parameter<Real>{name, row_view(values),
                        gradients == nullptr ? ParameterView<Real>{} : row_view(gradients->*own)});
    };
    vector("norm", norm_, &Gradients::norm);
    map_.visit_parameters("slots", gradients == nullptr ? nullptr : &gradients->slots, f);
    vector("slots.norm", slot_norm_, &Gradients::slot_norm);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    visit_buffer(f, "norm", norm_, gradients, &Gradients::norm);
    map_.visit_storage("slots", gradients == nullptr ? nullptr : &gradients->slots, f);
    visit_buffer(f, "slots.norm", slot_norm_, gradients, &Gradients::slot_norm);
  }

 private:
  static constexpr const char* kOf = "a router of mean slots";

  /// Added to the mean square, where the authors' code bounds the length from below by 1e-8.
  static Real eps() noexcept { return static_cast<Real>(1e-16); }
  static ParameterView<Real> row_view(Buffer<Real>& values) noexcept {
    return {values.data(), 1, values.size(), 1, 1, 1};
  }
  static const Options& checked(const Options& options) {
    require_range("experts", options.experts, 1, INT32_MAX);
    require_range("slots of an expert", options.slots, 1, INT32_MAX);
    require_range("rows of a mean", options.block, 1, INT32_MAX);
    require_range("width", options.width, 1, INT32_MAX);
    return options;
  }
  void require_parts() const { impl::require_there("soft router", identity_ && map_.out() > 0); }

  static CallShape shape_of(const RouterInput<Real>& in) noexcept {
    return {in.tokens(), in.segments.count(in.tokens()), in.options};
  }
  /// A segment has a mean for every whole block and one for the rest, none without rows.
  Index most_means(const CallShape& shape) const noexcept {
    return (std::min)(shape.tokens,
                      shape.tokens / options_->block + (std::min)(shape.segments, shape.tokens));
  }
  Arrays carve(Arena& arena, const CallShape& shape) const {
    const MixExtent room = extent(shape);
    const Index means = most_means(shape);
    Arrays a;
    a.mean_offsets = arena.take<Index>(means + 1);
    a.group_means = arena.take<Index>(room.groups + 1);
    a.group_slots = arena.take<Index>(room.groups + 1);
    a.mean = Arrays::matrix(arena, means, width());
    a.map = Arrays::matrix(arena, means, map_.out());
    a.row = Arrays::matrix(arena, shape.tokens, width());
    a.direction = Arrays::matrix(arena, room.slots, width());
    return a;
  }

  void check(const RouterInput<Real>& in) const {
    require_parts();
    impl::refuse_option("experts per token", in.options.experts_per_token, kOf);
    impl::refuse_option("capacity factor", in.options.capacity_factor, kOf);
    impl::refuse_option("temperature", in.options.temperature, kOf);
    impl::refuse_option("threshold", in.options.threshold, kOf);
    impl::refuse_option("p", in.options.p, kOf);
    if (in.logit_mask) fail<config_error>("logit_mask: expected none for ", kOf, ", got a matrix");
  }

  /// f(slot, mean, part of its map) for all slots: those of an expert lie side by side, by mean.
  template <class F>
  void each_slot(const MixTable<Real>& table, const Arrays& a, const F& f) const {
    for (Index g = 0, s = 0; g < table.groups; ++g) {
      for (Index e = 0; e < experts(); ++e) {
        for (Index j = a.group_means[g]; j < a.group_means[g + 1]; ++j) {
          for (Index i = 0; i < options_->slots; ++i, ++s) f(s, j, e * options_->slots + i);
        }
      }
    }
  }

  /// Groups and means.
  void find_means(const RouterInput<Real>& in, const bool* active, MixTable<Real>& table,
                  Arrays& a) const noexcept {
    const Index tokens = in.tokens(), block = options_->block;
    Index positions = 0;
    a.mean_offsets[0] = a.group_means[0] = 0;
    const auto end_group = [&] {
      const Index before = table.groups, means = a.means - a.group_means[before];
      table.end_group([&](Index) { return means * options_->slots; });
      if (table.groups > before) a.group_means[table.groups] = a.means;
    };
    for (Index s = 0; s < in.segments.count(tokens); ++s) {
      const Index begin = in.segments.begin(s), end = in.segments.end(s, tokens);
      for (Index first = begin; first < end; first += block) {
        for (Index t = first; t < end && t < first + block; ++t) {
          if (active[t]) table.push_row(t), ++positions;
        }
        if (positions > a.mean_offsets[a.means]) a.mean_offsets[++a.means] = positions;
        if (options_->blocks_mix) end_group();
      }
      if (!options_->blocks_mix) end_group();
    }
    for (Index g = 0; g < table.groups; ++g) a.group_slots[g] = table.first_slot(g);
    a.group_slots[table.groups] = table.slots();
    a.mean.rows = a.map.rows = a.means;
  }

  template <Executor X>
  void run(const RouterInput<Real>& in, MixTable<Real>& table, bool* active, Arrays& a, Arena& arena,
           X& executor) const {
    const Index d = width();
    for (Index t = 0; t < in.tokens(); ++t) {
      active[t] = in.takes_part(t);
      if (!active[t] || all_finite(in.x.row(t), d)) continue;
      if (options_->non_finite == NonFinite::throw_) {
        fail<numeric_error>("x (read by the router): expected finite values, got others for token ", t,
                            "; NonFinite::isolate_row confines it to its row");
      }
      active[t] = false;
      table.spoiled[t] = true;
    }
    find_means(in, active, table, a);
    executor.parallel_for(a.means, [&](Index j, Index) noexcept {
      Real* const mean = a.mean.row(j);
      fill_row(Real{0}, mean, d);
      for (Index p = a.mean_offsets[j]; p < a.mean_offsets[j + 1]; ++p) {
        const Real* const x = in.x.row(Index{table.row[p]});
        add_row(x, mean, d);
        if (norm_.empty()) {
          copy_row(x, a.row.row(p), d);
        } else {
          rms_norm_row(x, norm_.data(), Real{1}, eps(), a.row.row(p), d);
        }
      }
      scale_row(1 / static_cast<Real>(a.mean_offsets[j + 1] - a.mean_offsets[j]), mean, mean, d);
    });
    const Index mark = arena.mark();
    map_.forward(a.mean, a.map, arena, executor);
    arena.rewind(mark);
    const Real** const row = arena.take<const Real*>(in.tokens());
    const Real** const direction = arena.take<const Real*>(table.slots());
    Real** const logit = arena.take<Real*>(in.tokens());
    each_slot(table, a, [&](Index s, Index j, Index part) {
      rms_norm_row(a.map.row(j) + part * d, slot_norm_.data(), Real{1}, eps(), a.direction.row(s), d);
      direction[s] = a.direction.row(s);
    });
    for (Index g = 0, p = 0; g < table.groups; ++g) {
      for (Index r = 0; r < table.rows(g); ++r, ++p) {
        row[p] = a.row.row(p);
        logit[p] = table.combine_row(table.combine, g, r);
      }
    }
    mix_weight_gradients(RowMix<Real>{table.groups, a.group_slots, table.offsets, direction, nullptr, d}, row,
                         logit, arena, executor);
    for (Index g = 0, p = 0; g < table.groups; ++g) {
      for (Index r = 0; r < table.rows(g); ++r, ++p) {
        if (all_finite(logit[p], table.slots(g))) continue;
        fail<numeric_error>(
            "logits: expected finite values of slots that are means of rows, got others for token ",
            table.row[p]);
      }
    }
    impl::mix_softmax(table, options_->weights, executor);
  }

  impl::Identity identity_;
  impl::Movable<Options> options_;
  Buffer<Real> norm_;       // [D] or empty
  Projection<Real> map_;    // D to E S D
  Buffer<Real> slot_norm_;  // [D]
};

MOE_NAMESPACE_END
