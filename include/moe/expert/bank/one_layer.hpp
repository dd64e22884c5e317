// Experts of one layer of several maps side by side, z = unit(x, W_1 x + b_1, W_2 x + b_2, ...), all D x D:
// one grouped product forward, two backward. What `unit` is comes from the Unit:
//   kName, kParts, kPart[kParts]                names of the bank and of its maps
//   kVectors, kVector[]                         vectors [D] besides, at most one
//   activate(values, vector, n)                 rows of W x + b become what is kept of them
//   result(x, values, vector, z, n)             z from these
//   backward(x, values, vector, dz, dvalues, dx, n)   dvalues of W x + b; dx [D] what reaches x past the maps
//   add_vectors(values, dvalues, dvector, n)    dvector += a row's part
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/random.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/expert/concept.hpp"
#include "moe/expert/slot_tasks.hpp"
#include "moe/kernel/row.hpp"
#include "moe/product/grouped.hpp"
#include "moe/product/grouped_outer.hpp"
#include "moe/product/grouped_transposed.hpp"
#include "moe/storage/packed_matrix.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

struct OneLayerOptions {
  Index experts = 0;  // E >= 1
  Index width = 0;    // D >= 1
};

/// The bank behind FilmExperts and GruExperts. Parameters of expert e: "experts.<e>.<map>.weight" [D, D] and
/// ".bias" [D, 1] of every map, "experts.<e>.<vector>" [D, 1].
template <class Unit, class RealType>
class OneLayerBank {
 public:
  using Real = RealType;
  using Options = OneLayerOptions;
  static constexpr const char* kName = Unit::kName;
  static constexpr Coupling coupling = Coupling::row_independent;
  static constexpr bool kFreezesPairs = true;
  static constexpr Index kParts = Unit::kParts;

  struct Tape {
    Index slots = -1;
    Buffer<Real> values;  // [P, stride] what Unit keeps of W x + b
  };
  struct Gradients {
    Buffer<Real> weight;         // packed as the weights
    Buffer<Real> bias;           // [E, positions]
    Buffer<Real> vector;         // [E, D] or empty
    impl::Movable<Index> width;  // which packing leaves open
  };

  /// Zero parameters. Throws config_error naming the option out of range, size_error.
  explicit OneLayerBank(const Options& options) : options_(options) {
    require_range("experts", options.experts, 1, (std::numeric_limits<ExpertId>::max)());
    require_range("width", options.width, 1, INT32_MAX);
    checked_product("experts x maps", options.experts, packed_size<Real>(width(), panels()),
                    Index{sizeof(Real)});
    weight_.assign(experts() * pitch(), Real{0});
    bias_.assign(experts() * positions(), Real{0});
    vector_.assign(Unit::kVectors * experts() * width(), Real{0});
  }

  Index experts() const noexcept { return options_->experts; }
  Index width() const noexcept { return options_->width; }
  Index bytes() const noexcept {
    return (weight_.size() + bias_.size() + vector_.size()) * Index{sizeof(Real)};
  }

  /// Matrices uniform in +-1 / sqrt(D), the rest 0, by (seed, expert, map, place) alone.
  void initialise(std::uint64_t seed) noexcept {
    constexpr std::uint64_t kStep = 528;  // parts of other banks: 256 to 520
    const double bound = 1 / std::sqrt(static_cast<double>(width()));
    for (Index p = 0; p < kParts; ++p) {
      const KeyedRandom draw(seed, kStep + static_cast<std::uint64_t>(p), DrawStream::initialise);
      for (Index e = 0; e < experts(); ++e) {
        const ParameterView<Real> view = weight_view(weight_, e, p);
        for (Index o = 0; o < width(); ++o) {
          for (Index i = 0; i < width(); ++i) {
            const double u =
                draw.uniform(static_cast<std::uint64_t>(o * width() + i), static_cast<std::uint32_t>(e));
            view(o, i) = static_cast<Real>(bound * (2 * u - 1));
          }
        }
      }
    }
    bias_.fill(0);
    vector_.fill(0);
  }

  void measure(Arena& arena, Index pairs, Index) const { Scratch{arena, pairs, *this, false}; }
  void measure_backward(Arena& arena, Index pairs, Index concurrency) const {
    BackwardScratch{arena, pairs, *this, concurrency};
  }

  template <Executor X>
  void forward(const RowBatch<Real>& batch, const RowSink<Real>& sink, Arena& arena, X& executor) const {
    require_experts(experts(), batch);
    const Scratch scratch(arena, batch.slots(), *this, false);
    run(batch, sink, scratch.values, scratch.tasks, executor);
  }
  template <Executor X>
  void forward_train(const RowBatch<Real>& batch, const RowSink<Real>& sink, Tape& tape, Arena& arena,
                     X& executor) const {
    require_experts(experts(), batch);
    const Scratch scratch(arena, batch.slots(), *this, true);
    tape.slots = -1;
    Real* const values = tape.values.resize(checked_product("tape", batch.slots(), stride()));
    run(batch, sink, values, scratch.tasks, executor);
    tape.slots = batch.slots();
  }

  /// With dz = weight * dy: dweight = <dy, z>, dx (unless dx.data is null), and gradients (unless null) of
  /// slots that are not frozen added to. Throws state_error for the tape of another batch or bank,
  /// shape_error for gradients of another bank.
  template <Executor X>
  void backward(const RowBatch<Real>& batch, const Tape& tape, const RowGradients<Real>& rows,
                Gradients* gradients, Arena& arena, X& executor) const {
    require_experts(experts(), batch);
    const Index slots = batch.slots();
    if (tape.slots != slots || tape.values.size() != slots * stride()) {
      fail<state_error>("expert tape: expected the tape of this bank and a batch of ", slots,
                        " rows, got one of ", tape.slots);
    }
    impl::check_gradients_of(*this, gradients);
    const BackwardScratch scratch(arena, slots, *this, executor.concurrency());
    const bool wants_dx = rows.dx.data != nullptr;
    for_each_slot(batch, executor, [&](Index e, Index s) noexcept {
      const Real* const values = tape.values.data() + s * stride();
      Real* const dvalues = scratch.dvalues + s * stride();
      Real* const dz = scratch.dz + s * width();
      unit().result(batch.row[s], parts(values), vector(e), dz, width());
      rows.dweight[s] = dot(rows.dy[s], dz, width());
      scratch.dvalues_row[s] = dvalues;
      if (!wants_dx && gradients == nullptr) return;
      scale_row(rows.weight[s], rows.dy[s], dz, width());
      unit().backward(batch.row[s], parts(values), vector(e), dz, parts(dvalues), scratch.dpast + s * width(),
                      width());
      for (Index p = 0; p < kParts; ++p)
        fill_row(Real{0}, dvalues + p * part_stride() + width(), part_stride() - width());
    });
    if (wants_dx) {
      grouped_gemm_transposed<native_arch>(
          scratch.dvalues_row, positions(), batch.offsets, batch.experts,
          [this](Index e) noexcept { return matrices(e); },
          [&](Index, Index first, Index m, Index block, const Real* tile) noexcept {
            const Index column = block * kPanel<Real>;
            const Index count = (std::min)(kPanel<Real>, width() - column);
            for (Index i = 0; i < m; ++i) {
              Real* const dx = rows.dx.row(first + i) + column;
              copy_row(scratch.dpast + (first + i) * width() + column, dx, count);
              add_row(tile + i * kPanel<Real>, dx, count);
            }
          },
          scratch.tasks, scratch.panels, executor);
    }
    if (gradients != nullptr) add_gradients(batch, tape, rows, *gradients, scratch, executor);
  }

  Gradients make_gradients() const {
    return {Buffer<Real>(weight_.size()), Buffer<Real>(bias_.size()), Buffer<Real>(vector_.size()), width()};
  }

  /// Ids in names from first_id on.
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f, Index first_id = 0) {
    for (Index e = 0; e < experts(); ++e) {
      const auto show = [&](const char* part, const char* kind, Buffer<Real>& values,
                            Buffer<Real> Gradients::*own, auto view_of) {
        f(Parameter<Real>{ParameterName("experts.", first_id + e, ".", part, kind).c_str(), view_of(values),
                          gradients == nullptr ? ParameterView<Real>{} : view_of(gradients->*own)});
      };
      for (Index p = 0; p < kParts; ++p) {
        show(Unit::kPart[p], ".weight", weight_, &Gradients::weight,
             [&](Buffer<Real>& of) { return weight_view(of, e, p); });
        show(Unit::kPart[p], ".bias", bias_, &Gradients::bias, [&](Buffer<Real>& of) {
          return ParameterView<Real>{of.data() + e * positions() + p * part_stride(), width(), 1};
        });
      }
      if constexpr (Unit::kVectors > 0) {
        show(Unit::kVector[0], "", vector_, &Gradients::vector, [&](Buffer<Real>& of) {
          return ParameterView<Real>{of.data() + e * width(), width(), 1};
        });
      }
    }
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor&& f) {
    if (gradients != nullptr && gradients->width != width()) {
      fail<shape_error>("gradients of experts.maps: expected ", width(),
                        " columns (ask make_gradients()), got ", gradients->width.get());
    }
    visit_buffer(f, "experts.maps", weight_, gradients, &Gradients::weight);
    visit_buffer(f, "experts.maps.bias", bias_, gradients, &Gradients::bias);
    visit_buffer(f, "experts.vector", vector_, gradients, &Gradients::vector);
  }

 private:
  struct Scratch {
    Index* tasks;
    Real* values;  // [P, stride], unless on the tape
    Scratch(Arena& arena, Index slots, const OneLayerBank& bank, bool taped)
        : tasks(arena.take<Index>(task_list_size(bank.experts()))),
          values(taped ? nullptr : arena.take<Real>(checked_product("values", slots, bank.stride()))) {}
  };
  struct BackwardScratch {
    const Real** dvalues_row;  // [P]
    const Real** kept_x;       // [P] of the slots that are not frozen, as is:
    const Real** kept_row;     // [P]
    Index* kept_offsets;       // [E + 1]
    Index* tasks;
    Real* dvalues;  // [P, stride]
    Real* dz;       // [P, D]
    Real* dpast;    // [P, D] what reaches x past the maps
    Real* panels;   // per worker
    BackwardScratch(Arena& arena, Index slots, const OneLayerBank& bank, Index concurrency)
        : dvalues_row(arena.take<const Real*>(slots)),
          kept_x(arena.take<const Real*>(slots)),
          kept_row(arena.take<const Real*>(slots)),
          kept_offsets(arena.take<Index>(bank.experts() + 1)),
          tasks(arena.take<Index>(task_list_size(bank.experts()))),
          dvalues(arena.take<Real>(checked_product("gradients of values", slots, bank.stride()))),
          dz(arena.take<Real>(checked_product("gradients of results", slots, bank.width()))),
          dpast(arena.take<Real>(slots * bank.width())),
          panels(arena.take<Real>(checked_product("panels", concurrency, grouped_scratch<Real>()))) {}
  };

  /// The rows of a slot, by map.
  template <class T>
  struct Parts {
    T* row[kParts];
    T* operator[](Index p) const noexcept { return row[p]; }
  };
  template <class T>
  Parts<T> parts(T* values) const noexcept {
    Parts<T> all;
    for (Index p = 0; p < kParts; ++p) all.row[p] = values + p * part_stride();
    return all;
  }

  static constexpr Unit unit() noexcept { return {}; }
  /// Panels of all maps of an expert, each map in its own.
  Index panels() const noexcept { return kParts * plain_panels<Real>(width()); }
  Index part_stride() const noexcept { return plain_panels<Real>(width()) * kPanel<Real>; }
  Index positions() const noexcept { return panels() * kPanel<Real>; }
  Index stride() const noexcept { return row_stride<Real>(positions()); }
  Index pitch() const noexcept { return packed_size<Real>(width(), panels()); }
  PackedView<const Real> matrices(Index e) const noexcept {
    return {weight_.data() + e * pitch(), width(), panels()};
  }
  ParameterView<Real> weight_view(Buffer<Real>& of, Index e, Index p) const noexcept {
    return {of.data() + e * pitch() + p * plain_panels<Real>(width()) * width() * kPanel<Real>,
            width(),
            width(),
            kPanel<Real>,
            width() * kPanel<Real>,
            kPanel<Real>};
  }
  const Real* vector(Index e) const noexcept {
    return Unit::kVectors == 0 ? nullptr : vector_.data() + e * width();
  }

  template <Executor X>
  void run(const RowBatch<Real>& batch, const RowSink<Real>& sink, Real* values, Index* tasks,
           X& executor) const noexcept {
    grouped_gemm<native_arch>(
        batch.row, batch.offsets, batch.experts, [this](Index e) noexcept { return matrices(e); },
        [&](Index e, Index first, Index m, Index j, Real* tile) noexcept {
          const Index position = j * kPanel<Real>;
          for (Index i = 0; i < m; ++i) {
            Real* const to = values + (first + i) * stride() + position;
            copy_row(tile + i * kPanel<Real>, to, kPanel<Real>);
            add_row(bias_.data() + e * positions() + position, to, kPanel<Real>);
          }
        },
        tasks, executor);
    for_each_slot(batch, executor, [&](Index e, Index s) noexcept {
      Real* const own = values + s * stride();
      unit().activate(parts(own), vector(e), width());
      unit().result(batch.row[s], parts(static_cast<const Real*>(own)), vector(e), sink.row(s), width());
    });
  }

  /// dW += sum x (x) dvalues, db += sum dvalues, over an expert's slots ascending.
  template <Executor X>
  void add_gradients(const RowBatch<Real>& batch, const Tape& tape, const RowGradients<Real>& rows,
                     Gradients& gradients, const BackwardScratch& scratch, X& executor) const {
    Index kept = 0;
    for (Index e = 0; e < batch.experts; ++e) {
      scratch.kept_offsets[e] = kept;
      for (Index s = batch.offsets[e]; s < batch.offsets[e + 1]; ++s) {
        if (rows.freezes(s)) continue;
        scratch.kept_x[kept] = batch.row[s];
        scratch.kept_row[kept] = scratch.dvalues_row[s];
        ++kept;
      }
    }
    scratch.kept_offsets[batch.experts] = kept;
    grouped_outer<native_arch>(scratch.kept_x, width(), scratch.kept_row, positions(), scratch.kept_offsets,
                               batch.experts,
                               PackedMatrices<Real>{gradients.weight.data(), pitch(), width(), panels()},
                               scratch.tasks, scratch.panels, executor);
    executor.parallel_for(experts(), [&](Index e, Index) noexcept {
      for (Index s = batch.offsets[e]; s < batch.offsets[e + 1]; ++s) {
        if (rows.freezes(s)) continue;
        add_row(scratch.dvalues_row[s], gradients.bias.data() + e * positions(), positions());
        if constexpr (Unit::kVectors > 0) {
          unit().add_vectors(parts(tape.values.data() + s * stride()), parts(scratch.dvalues_row[s]),
                             gradients.vector.data() + e * width(), width());
        }
      }
    });
  }

  impl::Movable<Options> options_;
  Buffer<Real> weight_;  // [E] x [D][kParts * plain_panels(D)]
  Buffer<Real> bias_;    // [E, positions], in panel order
  Buffer<Real> vector_;  // [E, D] or empty
};

MOE_NAMESPACE_END
