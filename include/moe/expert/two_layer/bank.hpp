// Experts of two layers, z = W2 h + b2 with h = unit(W1 x + b1), all of a bank at once: two grouped products
// forward, four backward. What `unit` is (an activation, a gate) and how parameters are called comes from the
// Unit:
//   Layout                                        names and packing (expert/two_layer/parameters.hpp)
//   forward(pre, rows, h, h_stride)               one panel: pre [rows][kPanel] -> rows of h [kColumns]
//   backward(pre, dh, dpre)                       dpre [kPanel] = dh * unit'(pre)
// Each row of a panel goes through a row kernel by itself, so its bits do not depend on the tile it came in.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/expert/concept.hpp"
#include "moe/expert/slot_tasks.hpp"
#include "moe/expert/two_layer/hidden_dropout.hpp"
#include "moe/expert/two_layer/merging.hpp"
#include "moe/expert/two_layer/parameters.hpp"
#include "moe/expert/two_layer/prepared_rows.hpp"
#include "moe/kernel/prefetch.hpp"
#include "moe/kernel/row.hpp"
#include "moe/kernel/row_group.hpp"
#include "moe/product/grouped.hpp"
#include "moe/product/grouped_outer.hpp"
#include "moe/product/grouped_transposed.hpp"
#include "moe/storage/storage.hpp"

MOE_NAMESPACE_BEGIN

/// The bank behind Mlp and Glu. Const calls may run at the same time on different workspaces.
template <class Unit, class Storage>
class TwoLayerBank {
 public:
  using Real = typename StorageTraits<Storage>::Real;
  using Options = TwoLayerOptions;
  using StorageType = Storage;
  using Parameters = TwoLayerParameters<typename Unit::Layout, Storage>;
  /// Of a block storage too in float, packed as the weights of a float bank are: but see make_gradients().
  using Gradients = TwoLayerParameters<typename Unit::Layout, Real>;
  static constexpr const char* kName = Unit::kName;
  static constexpr Coupling coupling = Coupling::row_independent;
  static constexpr bool kFreezesPairs = true;

  struct Tape {
    Index slots = -1;
    Buffer<Real> pre;     // [P, first_stride] in front of the unit
    Buffer<Real> hidden;  // [P, hidden_stride] behind it, and behind the dropout
    Buffer<bool> kept;    // [P, hidden_stride] by the dropout; empty without
    Real kept_scale = 1;
  };

  Index experts() const noexcept { return parameters_.experts(); }
  Index width() const noexcept { return parameters_.width(); }
  Index hidden() const noexcept { return parameters_.hidden(); }
  /// Columns of the results: D, unless the options said otherwise.
  Index output_width() const noexcept { return parameters_.output(); }
  bool has_bias() const noexcept { return parameters_.has_bias(); }
  /// Of the weights, padding included.
  Index bytes() const noexcept { return parameters_.bytes(); }

  /// The bank's own name, then how its weights are stored.
  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    f(role, kName);
    f("weights", impl::kStorageName<Storage>);
  }

  /// Matrices uniform in +-1 / sqrt(inputs), biases 0. Same values for any packing and executor; banks that
  /// must differ take different seeds.
  template <Executor X = SerialExecutor>
  void initialise(std::uint64_t seed, X&& executor = X{}) {
    parameters_.initialise(seed, executor);
  }

  /// In training, of a batch with `draws`; none at first.
  const HiddenDropout& dropout() const noexcept { return dropout_; }
  void set_dropout(const HiddenDropout& dropout) noexcept { dropout_ = dropout; }
  /// Throws config_error for training with dropout and without draws.
  template <class Call>
  void check_call(const Call& in) const {
    if (in.training && dropout_.active()) in.require_draws("expert dropout");
  }

  void measure(Arena& arena, Index pairs, Index) const { Scratch{arena, pairs, parameters_, false}; }
  void measure_backward(Arena& arena, Index pairs, Index concurrency) const {
    BackwardScratch{arena, pairs, parameters_, concurrency};
  }

  template <Executor X>
  void forward(const RowBatch<Real>& batch, const RowSink<Real>& sink, Arena& arena, X& executor) const {
    run(parameters_.weights(), batch, sink, nullptr, arena, executor);
  }

  /// The same bits, but for dropout, and what backward needs on the tape. Throws config_error for dropout
  /// without a key of draws.
  template <Executor X>
  void forward_train(const RowBatch<Real>& batch, const RowSink<Real>& sink, Tape& tape, Arena& arena,
                     X& executor) const {
    const Index slots = batch.slots();
    const bool drops = batch.draws != nullptr && dropout_.active();
    if (drops) batch.draws->require("expert dropout");
    require_experts(experts(), batch);
    const Taped taped = start_tape(tape, slots, drops);
    run(parameters_.weights(), batch, sink, &taped, arena, executor);
    tape.slots = slots;
  }

  /// With dz = weight * dy: dweight = <dy, z>, dx (unless dx.data is null), and gradients (unless null) added
  /// to. Sums over the rows of an expert go in ascending order; those of frozen slots are left out, so that
  /// gradients have the bits of a batch without them. Where rows and weights are rounded, the
  /// derivative is taken as if rounding were the identity. Throws state_error for the tape of another batch
  /// or bank, shape_error for gradients of another bank.
  template <Executor X>
  void backward(const RowBatch<Real>& batch, const Tape& tape, const RowGradients<Real>& rows,
                Gradients* gradients, Arena& arena, X& executor) const {
    require_experts(experts(), batch);
    const TapedRows taped = read_tape(tape, batch.slots());
    parameters_.check(gradients);
    const TwoLayerWeights<Real> to = gradients == nullptr ? TwoLayerWeights<Real>{} : gradients->weights();
    run_backward(parameters_.weights(), batch, taped, rows, to, arena, executor);
  }

  // What merges experts (expert/merging.hpp). `heads` groups of columns: two_layer/merging.hpp.

  using Merged = TwoLayerWeights<Real>;
  Index heads() const noexcept { return 1; }

  void measure_merge(Arena&, Index) const noexcept {}
  void measure_merge_backward(Arena& arena, Index, Index heads = 1) const requires DenseStorage<Storage> {
    merge_of(heads).take_partial(arena);
  }
  void measure_merged(Arena& arena, Index rows, Index concurrency) const {
    measure(arena, rows, concurrency);
  }
  void measure_merged_backward(Arena& arena, Index rows, Index concurrency) const {
    measure_backward(arena, rows, concurrency);
  }

  Merged take_merged(Arena& arena) const requires DenseStorage<Storage> {
    const Index first = parameters_.first_size(), second = parameters_.second_size();
    Merged one{1,
               {arena.take<Real>(first), first, width(), parameters_.first_panels()},
               {arena.take<Real>(second), second, hidden(), parameters_.second_panels()},
               nullptr,
               nullptr,
               parameters_.bias_positions(),
               parameters_.second_positions()};
    if (!has_bias()) return one;
    one.first_biases = arena.take<Real>(one.first_pitch);
    one.second_biases = arena.take<Real>(one.second_pitch);
    return one;
  }
  template <Executor X>
  void merge(const Real* p, const Merged& one, Arena&, X& executor,
             Index heads = 1) const requires DenseStorage<Storage> {
    merge_of(heads).forward(p, one, executor);
  }
  /// The same into `one`, a bank of one expert of this shape: to keep, or to train further. Throws
  /// config_error for another one.
  template <Executor X>
  void merge_into(const Real* p, TwoLayerBank& one, X& executor,
                  Index heads = 1) const requires DenseStorage<Storage> {
    TwoLayerOptions want = parameters_.shape();
    want.experts = 1;
    if (one.parameters_.shape() != want) {
      fail<config_error>("merged expert: expected a bank of 1 expert ", width(), " x ", hidden(),
                         has_bias() ? " with" : " without", " biases, got ", one.experts(), " experts ",
                         one.width(), " x ", one.hidden(), one.has_bias() ? " with" : " without", " biases");
    }
    merge_of(heads).forward(p, one.parameters_.weights(), executor);
  }
  void open_tape(Tape& tape, Index rows, const RowDraws* draws) const requires DenseStorage<Storage> {
    start_tape(tape, rows, draws != nullptr && dropout_.active());
    tape.slots = rows;
  }
  template <Executor X>
  void forward_merged(const Merged& one, const RowBatch<Real>& batch, const RowSink<Real>& sink, Tape* tape,
                      Index first, Arena& arena, X& executor) const requires DenseStorage<Storage> {
    if (tape == nullptr) return run(reading(one), batch, sink, nullptr, arena, executor);
    MOE_ASSERT(first + batch.slots() <= tape->slots);
    const Index at = first * parameters_.hidden_stride();
    const Taped taped{tape->pre.data() + first * parameters_.first_stride(), tape->hidden.data() + at,
                      tape->kept.empty() ? nullptr : tape->kept.data() + at};
    run(reading(one), batch, sink, &taped, arena, executor);
  }
  template <Executor X>
  void backward_merged(const Merged& one, const RowBatch<Real>& batch, const Tape& tape, Index first,
                       const RowGradients<Real>& rows, const Merged& done, Arena& arena,
                       X& executor) const requires DenseStorage<Storage> {
    merge_of(1).clear(done, executor);
    TapedRows taped = read_tape(tape, tape.slots);
    MOE_ASSERT(first + batch.slots() <= tape.slots);
    const Index at = first * parameters_.hidden_stride();
    taped.pre += first * parameters_.first_stride();
    taped.hidden += at;
    if (taped.kept != nullptr) taped.kept += at;
    run_backward(reading(one), batch, taped, rows, done, arena, executor);
  }
  /// Throws shape_error for gradients of another bank.
  template <Executor X>
  void merge_backward(const Real* p, const Merged& done, Real* dp, Gradients* gradients, Arena& arena,
                      X& executor, Index heads = 1) const requires DenseStorage<Storage> {
    parameters_.check(gradients);
    const TwoLayerMerge<Real> of = merge_of(heads);
    const Merged to = gradients == nullptr ? Merged{} : gradients->weights();
    of.backward(p, done, dp, to, of.take_partial(arena), executor);
  }

  /// Zero. Rounded weights cannot be stepped, so of a block storage there are those of the biases alone, and
  /// backward forms no others.
  Gradients make_gradients() const { return Gradients(parameters_.shape(), DenseStorage<Storage>); }
  /// Zero, of the weights of a block storage too, as large as a float bank: what they would be if rounding
  /// were the identity. The visits of a float bank of the same options show them.
  Gradients make_weight_gradients() const { return Gradients(parameters_.shape()); }

  /// Names "experts.<id>.<matrix>.weight" (and ".bias"), ids from first_id on.
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f, Index first_id = 0) {
    parameters_.visit_parameters(gradients, f, first_id);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor&& f) {
    parameters_.visit_storage(gradients, f);
  }
  /// f(name, std::byte* data, bytes) for the weights of a block storage, as they lie in memory.
  template <class Visitor>
  void visit_packed(Visitor&& f) {
    parameters_.visit_packed(f);
  }

 protected:
  TwoLayerBank(const Options& options, Unit unit) : parameters_(options), unit_(std::move(unit)) {}
  template <class From>
  explicit TwoLayerBank(const TwoLayerBank<Unit, From>& other)
      : parameters_(other.parameters_.shape()), unit_(other.unit_), dropout_(other.dropout_) {
    static_assert(std::is_same_v<Real, typename StorageTraits<From>::Real>,
                  "moe: banks of float and double do not convert into each other");
    parameters_.assign(other.parameters_);
  }
  Parameters& parameters() noexcept { return parameters_; }
  const Parameters& parameters() const noexcept { return parameters_; }

 private:
  template <class, class>
  friend class TwoLayerBank;

  static TwoLayerWeights<const Real> reading(const Merged& one) noexcept {
    return {one.experts,
            {one.first.data, one.first.pitch, one.first.rows, one.first.panels},
            {one.second.data, one.second.pitch, one.second.rows, one.second.panels},
            one.first_biases,
            one.second_biases,
            one.first_pitch,
            one.second_pitch};
  }
  TwoLayerMerge<Real> merge_of(Index heads) const noexcept requires DenseStorage<Storage> {
    return {parameters_.weights(), width(), heads};
  }
  using Kernel = TileKernel<native_arch, Storage>;
  using Cell = typename Kernel::Cell;
  static constexpr Index kColumns = Parameters::kColumns;
  static constexpr Index kTilePanels = Parameters::kTilePanels;

  struct Scratch {
    const Cell** hidden_row;  // [P]
    Index* tasks;
    Cell* hidden;            // [P, hidden_cells], unless on the tape
    Real* whole;             // [P, hidden_stride] of rows that are rounded whole, unless on the tape
    PreparedRows<Kernel> x;  // what the first layer reads
    Scratch(Arena& arena, Index slots, const Parameters& parameters, bool taped)
        : hidden_row(arena.take<const Cell*>(slots)),
          tasks(arena.take<Index>(task_list_size(parameters.experts()))),
          hidden(taped && !Kernel::kRounds
                     ? nullptr
                     : arena.take<Cell>(checked_product("hidden", slots, hidden_cells(parameters)))),
          whole(taped || !Kernel::kWholeRows
                    ? nullptr
                    : arena.take<Real>(checked_product("hidden", slots, parameters.hidden_stride()))),
          x(arena, slots, parameters.width()) {}
  };

  static Index hidden_cells(const Parameters& parameters) noexcept {
    return Kernel::kRounds ? Kernel::stride(parameters.hidden()) : parameters.hidden_stride();
  }

  struct BackwardScratch {
    const Real** dh_row;    // [P]
    const Real** dpre_row;  // [P]
    Index* tasks;
    Real* dh;      // [P, hidden_stride]
    Real* dpre;    // [P, first_stride]
    Real* panels;  // [concurrency * grouped_scratch]
    PreparedRows<TileKernel<native_arch, Real>> dy;
    // What is left without frozen slots:
    const Real** kept_x;     // [P]
    const Real** kept_dpre;  // [P]
    const Real** kept_dh;    // [P]
    const Real** kept_dy;    // [P]
    Index* kept_offsets;     // [E + 1]
    BackwardScratch(Arena& arena, Index slots, const Parameters& parameters, Index concurrency)
        : dh_row(arena.take<const Real*>(slots)),
          dpre_row(arena.take<const Real*>(slots)),
          tasks(arena.take<Index>(task_list_size(parameters.experts()))),
          dh(arena.take<Real>(checked_product("hidden gradients", slots, parameters.hidden_stride()))),
          dpre(arena.take<Real>(checked_product("hidden gradients", slots, parameters.first_stride()))),
          panels(arena.take<Real>(checked_product("panels", concurrency, grouped_scratch<Real>()))),
          dy(arena, slots, parameters.output()),
          kept_x(arena.take<const Real*>(slots)),
          kept_dpre(arena.take<const Real*>(slots)),
          kept_dh(arena.take<const Real*>(slots)),
          kept_dy(arena.take<const Real*>(slots)),
          kept_offsets(arena.take<Index>(parameters.experts() + 1)) {}
  };

  /// The factors of the weights' gradients, by expert.
  struct Factors {
    const Real* const* x;
    const Real* const* dpre;
    const Real* const* dh;
    const Real* const* dy;
    const Index* offsets;
  };
  static Factors factors_of(const RowBatch<Real>& batch, const RowGradients<Real>& rows,
                            const Real* const* dy, const BackwardScratch& scratch) noexcept {
    if (rows.frozen == nullptr) return {batch.row, scratch.dpre_row, scratch.dh_row, dy, batch.offsets};
    Index kept = 0;
    for (Index e = 0; e < batch.experts; ++e) {
      scratch.kept_offsets[e] = kept;
      for (Index s = batch.offsets[e]; s < batch.offsets[e + 1]; ++s) {
        if (rows.frozen[s]) continue;
        scratch.kept_x[kept] = batch.row[s];
        scratch.kept_dpre[kept] = scratch.dpre_row[s];
        scratch.kept_dh[kept] = scratch.dh_row[s];
        scratch.kept_dy[kept] = dy[s];
        ++kept;
      }
    }
    scratch.kept_offsets[batch.experts] = kept;
    return {scratch.kept_x, scratch.kept_dpre, scratch.kept_dh, scratch.kept_dy, scratch.kept_offsets};
  }

  /// Where rows of a tape are written, from the first of a batch on.
  struct Taped {
    Real* pre;
    Real* hidden;
    bool* kept;  // null without dropout
  };
  struct TapedRows {
    const Real* pre;
    const Real* hidden;
    const bool* kept;
    Real kept_scale;
  };
  /// Makes room for `slots` rows. The tape is good once its `slots` are set.
  Taped start_tape(Tape& tape, Index slots, bool drops) const {
    tape.slots = -1;  // in case a resize throws
    Real* const hidden = tape.hidden.resize(checked_product("tape", slots, parameters_.hidden_stride()));
    Real* const pre = tape.pre.resize(checked_product("tape", slots, parameters_.first_stride()));
    bool* const kept = tape.kept.resize(drops ? slots * parameters_.hidden_stride() : 0);
    tape.kept_scale = static_cast<Real>(dropout_.scale());
    return {pre, hidden, drops ? kept : nullptr};
  }
  TapedRows read_tape(const Tape& tape, Index slots) const {
    if (tape.slots != slots) {
      fail<state_error>("expert tape: expected the tape of a batch of ", slots, " rows, got one of ",
                        tape.slots);
    }
    if (tape.pre.size() != slots * parameters_.first_stride() ||
        tape.hidden.size() != slots * parameters_.hidden_stride() ||
        !(tape.kept.empty() || tape.kept.size() == tape.hidden.size())) {
      fail<state_error>("expert tape: expected the tape of a bank of this shape, got another bank's");
    }
    return {tape.pre.data(), tape.hidden.data(), tape.kept.empty() ? nullptr : tape.kept.data(),
            tape.kept_scale};
  }

  /// forward of experts with these weights, onto a tape unless it is null.
  template <Executor X>
  void run(const TwoLayerWeights<const Storage>& weights, const RowBatch<Real>& batch,
           const RowSink<Real>& sink, const Taped* tape, Arena& arena, X& executor) const {
    require_experts(weights.experts, batch);
    const bool drops = tape != nullptr && tape->kept != nullptr;
    const Index slots = batch.slots(), pre_stride = parameters_.first_stride(),
                stride = parameters_.hidden_stride(), cells = hidden_cells(parameters_);
    const Scratch scratch(arena, slots, parameters_, tape != nullptr);
    Cell* hidden_rows = scratch.hidden;
    Real* const taped_pre = tape == nullptr ? nullptr : tape->pre;
    Real* const taped_hidden = tape == nullptr ? nullptr : tape->hidden;
    if constexpr (!Kernel::kRounds) {
      if (tape != nullptr) hidden_rows = taped_hidden;
    }
    // Hidden values that are not rounded as soon as they are there.
    constexpr bool kRoundsAtOnce = Kernel::kRounds && !Kernel::kWholeRows;
    Real* exact_rows = tape == nullptr ? scratch.whole : taped_hidden;
    if constexpr (!Kernel::kRounds) exact_rows = hidden_rows;
    const Index exact_stride = Kernel::kRounds ? stride : cells;
    for (Index s = 0; s < slots; ++s) scratch.hidden_row[s] = hidden_rows + s * cells;

    const KeyedRandom draw = dropout_.draw(drops ? *batch.draws->key : DrawKey{});
    const auto drop = [&](Index e, Index s, Index column, Real* h) noexcept {
      const Index count = std::clamp<Index>(hidden() - column, 0, kColumns);
      dropout_.apply(draw, batch.draws->key_of(batch.token[s]), e, hidden(), column, count, h,
                     tape->kept + s * stride + column);
    };
    grouped_gemm<native_arch, kTilePanels>(
        scratch.x.prepare(batch.row, batch, executor), batch.offsets, batch.experts, weights.first,
        [&](Index e, Index first, Index m, Index unit, Real* tile) noexcept {
          constexpr Index kUnitColumns = kTilePanels * kColumns;
          const Index column = unit * kUnitColumns;
          alignas(64) Real rounded[kRoundsAtOnce ? Kernel::kRows * kUnitColumns : 1];  // still to be rounded
          Real* h = rounded;
          Index h_stride = kUnitColumns;
          if constexpr (!kRoundsAtOnce)
            h = exact_rows + first * exact_stride + column, h_stride = exact_stride;
          for (Index p = 0; p < kTilePanels; ++p) {
            const Index position = (unit * kTilePanels + p) * kPanel<Real>;
            Real* const pre = tile + p * Kernel::kRows * kPanel<Real>;
            for (Index i = 0; has_bias() && position < parameters_.bias_positions() && i < m; ++i) {
              add_row(weights.first_bias(e) + position, pre + i * kPanel<Real>, kPanel<Real>);
            }
            for (Index i = 0; tape != nullptr && i < m; ++i) {
              copy_row(pre + i * kPanel<Real>, taped_pre + (first + i) * pre_stride + position, kPanel<Real>);
            }
            unit_.forward(pre, m, h + p * kColumns, h_stride);
            for (Index i = 0; drops && i < m; ++i)
              drop(e, first + i, column + p * kColumns, h + i * h_stride + p * kColumns);
          }
          if constexpr (kRoundsAtOnce) {
            for (Index i = 0; tape != nullptr && i < m; ++i) {
              copy_row(h + i * h_stride, taped_hidden + (first + i) * stride + column, kUnitColumns);
            }
            for (Index i = 0; i < m; ++i) {
              prepare_row<native_arch, Storage>(h + i * h_stride, (std::min)(kUnitColumns, hidden() - column),
                                                hidden_rows + (first + i) * cells + column / kBlockRows);
            }
          }
        },
        scratch.tasks, executor,
        [&](Index s, Index unit) noexcept {
          const auto fetch = [](const auto* h, Index count) noexcept {
            prefetch_write(h);
            prefetch_write(reinterpret_cast<const char*>(h + count) - 1);
          };
          if constexpr (kRoundsAtOnce) {
            constexpr Index kUnitCells = kTilePanels * kColumns / kBlockRows;
            fetch(hidden_rows + s * cells + unit * kUnitCells, kUnitCells);
          } else {
            fetch(exact_rows + s * exact_stride + unit * kTilePanels * kColumns, kTilePanels * kColumns);
          }
        });
    if constexpr (Kernel::kWholeRows) {
      for_each_slot(batch, executor, [&](Index, Index s) noexcept {
        Kernel::prepare(exact_rows + s * stride, hidden(), hidden_rows + s * cells);
      });
    }

    grouped_gemm<native_arch>(
        scratch.hidden_row, batch.offsets, batch.experts, weights.second,
        [&](Index e, Index first, Index m, Index j, Real* tile) noexcept {
          const Index column = j * kPanel<Real>;
          const Index count = (std::min)(kPanel<Real>, output_width() - column);
          for (Index i = 0; i < m; ++i) {
            Real* const z = tile + i * kPanel<Real>;
            if (has_bias()) add_row(weights.second_bias(e) + column, z, kPanel<Real>);
            copy_row(z, sink.row(first + i) + column, count);
          }
        },
        scratch.tasks, executor,
        [&](Index s, Index j) noexcept {
          const Real* const z = sink.row(s) + j * kPanel<Real>;
          prefetch_write(z);
          prefetch_write(z + kHalf<Real>);
        });
  }

  /// backward of experts with these weights; the gradients of what `to` holds are added to it.
  template <Executor X>
  void run_backward(const TwoLayerWeights<const Storage>& weights, const RowBatch<Real>& batch,
                    const TapedRows& tape, const RowGradients<Real>& rows, const TwoLayerWeights<Real>& to,
                    Arena& arena, X& executor) const {
    const BackwardScratch scratch(arena, batch.slots(), parameters_, executor.concurrency());
    const bool wants_dx = rows.dx.data != nullptr;
    const bool trained = to.first.data != nullptr || to.first_biases != nullptr;
    const Real* const* const dy = scratch.dy.prepare(rows.dy, batch, executor);

    // dh = dy W2^T for each slot's bare dy: <dh, h> is what <dy, z> is without b2.
    grouped_gemm_transposed<native_arch>(
        dy, output_width(), batch.offsets, batch.experts, weights.second,
        [&](Index, Index first, Index m, Index block, const Real* tile) noexcept {
          const Index column = block * kPanel<Real>;
          const Index count = (std::min)(kPanel<Real>, hidden() - column);
          for (Index i = 0; i < m; ++i) {
            copy_row(tile + i * kPanel<Real>, scratch.dh + (first + i) * parameters_.hidden_stride() + column,
                     count);
          }
        },
        scratch.tasks, scratch.panels, executor);

    // Then dh becomes weight * h, the left factor of dW2; dpre stays.
    for_each_slot(batch, executor, [&](Index e, Index s) noexcept {
      Real* const dh = scratch.dh + s * parameters_.hidden_stride();
      const Real* const h = tape.hidden + s * parameters_.hidden_stride();
      Real dweight = dot(dh, h, hidden());
      if (has_bias()) dweight += dot(rows.dy[s], weights.second_bias(e), output_width());
      rows.dweight[s] = dweight;
      if (!wants_dx && !trained) return;
      Real* const dpre = scratch.dpre + s * parameters_.first_stride();
      scale_row(rows.weight[s], dh, dh, hidden());
      const bool* const kept = tape.kept + (tape.kept == nullptr ? 0 : s * parameters_.hidden_stride());
      for (Index j = 0; tape.kept != nullptr && j < hidden(); ++j)
        dh[j] = kept[j] ? dh[j] * tape.kept_scale : Real{0};
      unit_backward(tape.pre + s * parameters_.first_stride(), dh, dpre);
      scratch.dpre_row[s] = dpre;
      scale_row(rows.weight[s], h, dh, hidden());
      scratch.dh_row[s] = dh;
    });

    if (trained) add_gradients(batch, rows, dy, to, scratch, executor);
    if (!wants_dx) return;
    grouped_gemm_transposed<native_arch>(
        scratch.dpre_row, parameters_.first_positions(), batch.offsets, batch.experts, weights.first,
        [&](Index, Index first, Index m, Index block, const Real* tile) noexcept {
          const Index column = block * kPanel<Real>;
          const Index count = (std::min)(kPanel<Real>, width() - column);
          for (Index i = 0; i < m; ++i)
            copy_row(tile + i * kPanel<Real>, rows.dx.row(first + i) + column, count);
        },
        scratch.tasks, scratch.panels, executor);
  }

  /// dpre of a row, panel by panel. Padding becomes 0, whatever x was: it must not reach dx, and its gradient
  /// stays 0.
  void unit_backward(const Real* pre, Real* dh, Real* dpre) const noexcept {
    const Index panels = parameters_.used_panels(), positions = parameters_.bias_positions();
    const Index used = hidden() - (panels - 1) * kColumns;  // columns of the last panel
    fill_row(Real{0}, dh + hidden(), kColumns - used);
    for (Index j = 0; j < panels; ++j) {
      unit_.backward(pre + j * kPanel<Real>, dh + j * kColumns, dpre + j * kPanel<Real>);
    }
    for (Index part = 0; part < Parameters::kParts; ++part) {
      const Index end = positions - kPanel<Real> + (part + 1) * kColumns;
      fill_row(Real{0}, dpre + end - (kColumns - used), kColumns - used);
    }
    fill_row(Real{0}, dpre + positions, parameters_.first_positions() - positions);
  }

  /// dW1 += sum x (x) dpre, db1 += sum dpre, dW2 += sum weight h (x) dy, db2 += sum weight dy.
  template <Executor X>
  void add_gradients(const RowBatch<Real>& batch, const RowGradients<Real>& rows, const Real* const* dy,
                     const TwoLayerWeights<Real>& to, const BackwardScratch& scratch, X& executor) const {
    if (to.first.data != nullptr) {
      const Factors of = factors_of(batch, rows, dy, scratch);
      grouped_outer<native_arch>(of.x, width(), of.dpre, parameters_.bias_positions(), of.offsets,
                                 batch.experts, to.first, scratch.tasks, scratch.panels, executor);
      grouped_outer<native_arch>(of.dh, hidden(), of.dy, output_width(), of.offsets, batch.experts, to.second,
                                 scratch.tasks, scratch.panels, executor);
    }
    if (!has_bias()) return;
    constexpr Index kBlock = 8 * kPanel<Real>;  // columns of a task
    const Index positions = parameters_.bias_positions();
    const Index first_blocks = ceil_div(positions, kBlock);
    const Index blocks = first_blocks + ceil_div(output_width(), kBlock);
    executor.parallel_for(to.experts * blocks, [&](Index task, Index) noexcept {
      const Index e = task / blocks, block = task % blocks;
      const bool is_first = block < first_blocks;
      const Index column = (is_first ? block : block - first_blocks) * kBlock;
      const Index count = (std::min)(kBlock, (is_first ? positions : output_width()) - column);
      for (Index s = batch.offsets[e]; s < batch.offsets[e + 1]; ++s) {
        if (rows.freezes(s)) continue;
        if (is_first) {
          add_row(scratch.dpre_row[s] + column, to.first_bias(e) + column, count);
        } else {
          axpy_row(rows.weight[s], rows.dy[s] + column, to.second_bias(e) + column, count);
        }
      }
    });
  }

  Parameters parameters_;
  Unit unit_;
  HiddenDropout dropout_;
};

MOE_NAMESPACE_END
