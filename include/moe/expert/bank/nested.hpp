// Experts that are nested in one feed-forward layer: expert j is its first n_j hidden units, so that a wider
// one goes on where a narrower one ends. Flextron, Cai et al. 2406.10260 (matryoshka slices).
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/expert/bank/glu.hpp"
#include "moe/expert/bank/mlp.hpp"
#include "moe/expert/concept.hpp"
#include "moe/expert/slot_tasks.hpp"
#include "moe/expert/two_layer/parameters.hpp"
#include "moe/kernel/row.hpp"
#include "moe/product/grouped.hpp"
#include "moe/product/grouped_outer.hpp"
#include "moe/product/grouped_transposed.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

struct NestedOptions {
  Index width = 0;                  // D >= 1
  std::span<const Index> widths{};  // n_j >= 1 hidden units of expert j, in any order; the largest is F
  bool bias = false;                // the second layer's is every expert's
};

/// The bank behind NestedMlp and NestedGlu. Expert j has the bits of a bank of hidden width n_j with its
/// weights, forward and backward; the widest those of the dense layer. Gradients of the shared weights are
/// added by ascending expert, an expert's own sum over its rows first.
template <class Unit, class RealType>
class NestedBank {
 public:
  using Real = RealType;
  using Options = NestedOptions;
  using Parameters = TwoLayerParameters<typename Unit::Layout, Real>;
  using Gradients = Parameters;
  static constexpr Coupling coupling = Coupling::row_independent;
  static constexpr bool kFreezesPairs = true;

  struct Tape {
    Index slots = -1;
    Buffer<Real> pre;     // [P, first_stride] in front of the unit
    Buffer<Real> hidden;  // [P, hidden_stride] behind it; of an expert its own columns alone
  };

  Index experts() const noexcept { return width_of_.size(); }
  Index width() const noexcept { return parameters_.width(); }
  /// F: the widest expert's.
  Index hidden() const noexcept { return parameters_.hidden(); }
  Index hidden_of(Index e) const noexcept { return width_of_[e]; }
  bool has_bias() const noexcept { return parameters_.has_bias(); }
  Index bytes() const noexcept { return parameters_.bytes(); }

  /// Matrices uniform in +-1 / sqrt(D) and +-1 / sqrt(F), biases 0: as the dense layer.
  void initialise(std::uint64_t seed) {
    SerialExecutor serial;
    parameters_.initialise(seed, serial);
  }

  void measure(Arena& arena, Index pairs, Index) const {
    Scratch{arena, pairs, parameters_, experts(), false};
  }
  void measure_backward(Arena& arena, Index pairs, Index concurrency) const {
    BackwardScratch{arena, pairs, parameters_, experts(), concurrency};
  }

  template <Executor X>
  void forward(const RowBatch<Real>& batch, const RowSink<Real>& sink, Arena& arena, X& executor) const {
    run(batch, sink, nullptr, arena, executor);
  }
  template <Executor X>
  void forward_train(const RowBatch<Real>& batch, const RowSink<Real>& sink, Tape& tape, Arena& arena,
                     X& executor) const {
    run(batch, sink, &tape, arena, executor);
  }

  /// With dz = weight * dy: dweight = <dy, z>, dx (unless dx.data is null), and gradients (unless null) of
  /// slots that are not frozen added to. Throws state_error for the tape of another batch or bank,
  /// shape_error for gradients of another bank.
  template <Executor X>
  void backward(const RowBatch<Real>& batch, const Tape& tape, const RowGradients<Real>& rows,
                Gradients* gradients, Arena& arena, X& executor) const {
    require_experts(experts(), batch);
    const Index slots = batch.slots(), pre_stride = parameters_.first_stride(),
                stride = parameters_.hidden_stride();
    if (tape.slots != slots || tape.pre.size() != slots * pre_stride ||
        tape.hidden.size() != slots * stride) {
      fail<state_error>("expert tape: expected the tape of this bank and a batch of ", slots,
                        " rows, got one of ", tape.slots);
    }
    parameters_.check(gradients);
    const BackwardScratch scratch(arena, slots, parameters_, experts(), executor.concurrency());
    const bool wants_dx = rows.dx.data != nullptr;

    grouped_gemm_transposed<native_arch>(
        rows.dy, width(), batch.offsets, batch.experts, [this](Index e) noexcept { return second(e); },
        [&](Index e, Index first, Index m, Index block, const Real* tile) noexcept {
          const Index column = block * kPanel<Real>;
          const Index count = (std::min)(kPanel<Real>, hidden_of(e) - column);
          for (Index i = 0; i < m; ++i)
            copy_row(tile + i * kPanel<Real>, scratch.dh + (first + i) * stride + column, count);
        },
        scratch.tasks, scratch.panels, executor);

    // Then dh becomes weight * h, the left factor of dW2; dpre stays.
    for_each_slot(batch, executor, [&](Index e, Index s) noexcept {
      const Index n = hidden_of(e);
      Real *const dh = scratch.dh + s * stride, *const dpre = scratch.dpre + s * pre_stride;
      const Real* const h = tape.hidden.data() + s * stride;
      Real dweight = dot(dh, h, n);
      if (has_bias()) dweight += dot(rows.dy[s], parameters_.second_bias(0), width());
      rows.dweight[s] = dweight;
      scale_row(rows.weight[s], dh, dh, n);
      unit_backward(e, tape.pre.data() + s * pre_stride, dh, dpre);
      scale_row(rows.weight[s], h, dh, n);
      scratch.dpre_row[s] = dpre;
    });

    if (gradients != nullptr) add_gradients(batch, rows, *gradients, scratch, executor);
    if (!wants_dx) return;
    grouped_gemm_transposed<native_arch>(
        scratch.dpre_row, parameters_.bias_positions(), batch.offsets, batch.experts,
        [this](Index e) noexcept { return first(e); },
        [&](Index, Index first, Index m, Index block, const Real* tile) noexcept {
          const Index column = block * kPanel<Real>;
          const Index count = (std::min)(kPanel<Real>, width() - column);
          for (Index i = 0; i < m; ++i)
            copy_row(tile + i * kPanel<Real>, rows.dx.row(first + i) + column, count);
        },
        scratch.tasks, scratch.panels, executor);
  }

  Gradients make_gradients() const { return Gradients(parameters_.shape()); }

  /// Names "experts.<matrix>.weight" (and ".bias"), of the shapes of the dense layer.
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f) {
    parameters_.visit_parameters(
        gradients,
        [&](Parameter<Real> p) {
          const ParameterName name("experts.", std::string_view(p.name).substr(kOneExpert.size()).data());
          p.name = name.c_str();
          f(p);
        },
        0);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor&& f) {
    parameters_.visit_storage(gradients, f);
  }

 protected:
  NestedBank(const Options& options, Unit unit)
      : parameters_(
            {.experts = 1, .width = options.width, .hidden = widest(options.widths), .bias = options.bias}),
        unit_(std::move(unit)) {
    width_of_.copy_from(options.widths.data(), static_cast<Index>(options.widths.size()));
  }

 private:
  static constexpr Index kColumns = Parameters::kColumns;
  static constexpr std::string_view kOneExpert = "experts.0.";

  struct Scratch {
    const Real** hidden_row;  // [P]
    Index* tasks;
    Real* hidden;  // [P, hidden_stride], unless on the tape
    Scratch(Arena& arena, Index slots, const Parameters& parameters, Index experts, bool taped)
        : hidden_row(arena.take<const Real*>(slots)),
          tasks(arena.take<Index>(task_list_size(experts))),
          hidden(taped ? nullptr
                       : arena.take<Real>(checked_product("hidden", slots, parameters.hidden_stride()))) {}
  };
  struct BackwardScratch {
    const Real** dpre_row;  // [P]
    Index* tasks;
    Real* dh;      // [P, hidden_stride]
    Real* dpre;    // [P, first_stride]
    Real* panels;  // [concurrency * grouped_scratch]
    // Of an expert the slots that are not frozen:
    const Real** kept_x;     // [P]
    const Real** kept_dpre;  // [P]
    const Real** kept_dh;    // [P]
    const Real** kept_dy;    // [P]
    BackwardScratch(Arena& arena, Index slots, const Parameters& parameters, Index experts, Index concurrency)
        : dpre_row(arena.take<const Real*>(slots)),
          tasks(arena.take<Index>(task_list_size(experts))),
          dh(arena.take<Real>(checked_product("hidden gradients", slots, parameters.hidden_stride()))),
          dpre(arena.take<Real>(checked_product("hidden gradients", slots, parameters.first_stride()))),
          panels(arena.take<Real>(checked_product("panels", concurrency, grouped_scratch<Real>()))),
          kept_x(arena.take<const Real*>(slots)),
          kept_dpre(arena.take<const Real*>(slots)),
          kept_dh(arena.take<const Real*>(slots)),
          kept_dy(arena.take<const Real*>(slots)) {}
  };

  static Index widest(std::span<const Index> widths) {
    require_range("experts (hidden widths)", static_cast<Index>(widths.size()), 1,
                  (std::numeric_limits<ExpertId>::max)());
    Index most = 0;
    for (const Index n : widths) {
      require_range("hidden width of a nested expert", n, 1, PTRDIFF_MAX);
      most = (std::max)(most, n);
    }
    return most;
  }

  Index panels_of(Index e) const noexcept { return ceil_div(hidden_of(e), kColumns); }
  /// In the last panel stand columns of wider experts too: what they give is not used, what they get is 0.
  PackedView<const Real> first(Index e) const noexcept {
    return parameters_.first(0).first(width(), panels_of(e));
  }
  PackedView<const Real> second(Index e) const noexcept {
    const PackedView<const Real> all = parameters_.second(0);
    return all.first(hidden_of(e), all.panels);
  }

  template <Executor X>
  void run(const RowBatch<Real>& batch, const RowSink<Real>& sink, Tape* tape, Arena& arena,
           X& executor) const {
    require_experts(experts(), batch);
    const Index slots = batch.slots(), pre_stride = parameters_.first_stride(),
                stride = parameters_.hidden_stride();
    const Scratch scratch(arena, slots, parameters_, experts(), tape != nullptr);
    Real *hidden = scratch.hidden, *pre_rows = nullptr;
    if (tape != nullptr) {
      tape->slots = -1;  // in case a resize throws
      hidden = tape->hidden.resize(checked_product("tape", slots, stride));
      pre_rows = tape->pre.resize(checked_product("tape", slots, pre_stride));
      tape->slots = slots;
    }
    for (Index s = 0; s < slots; ++s) scratch.hidden_row[s] = hidden + s * stride;

    grouped_gemm<native_arch>(
        batch.row, batch.offsets, batch.experts, [this](Index e) noexcept { return first(e); },
        [&](Index, Index first, Index m, Index j, Real* tile) noexcept {
          const Index position = j * kPanel<Real>;
          for (Index i = 0; i < m; ++i) {
            Real* const pre = tile + i * kPanel<Real>;
            if (has_bias()) add_row(parameters_.first_bias(0) + position, pre, kPanel<Real>);
            if (tape != nullptr) copy_row(pre, pre_rows + (first + i) * pre_stride + position, kPanel<Real>);
          }
          unit_.forward(tile, m, hidden + first * stride + j * kColumns, stride);
        },
        scratch.tasks, executor);

    grouped_gemm<native_arch>(
        scratch.hidden_row, batch.offsets, batch.experts, [this](Index e) noexcept { return second(e); },
        [&](Index, Index first, Index m, Index j, Real* tile) noexcept {
          const Index column = j * kPanel<Real>;
          const Index count = (std::min)(kPanel<Real>, width() - column);
          for (Index i = 0; i < m; ++i) {
            Real* const z = tile + i * kPanel<Real>;
            if (has_bias()) add_row(parameters_.second_bias(0) + column, z, kPanel<Real>);
            copy_row(z, sink.row(first + i) + column, count);
          }
        },
        scratch.tasks, executor);
  }

  /// dpre of a row, panel by panel; 0 from the expert's width on.
  void unit_backward(Index e, const Real* pre, const Real* dh, Real* dpre) const noexcept {
    const Index panels = panels_of(e), used = hidden_of(e) - (panels - 1) * kColumns;  // of the last panel
    for (Index j = 0; j < panels; ++j)
      unit_.backward(pre + j * kPanel<Real>, dh + j * kColumns, dpre + j * kPanel<Real>);
    for (Index part = 0; part < Parameters::kParts; ++part) {
      const Index end = (panels - 1) * kPanel<Real> + (part + 1) * kColumns;
      fill_row(Real{0}, dpre + end - (kColumns - used), kColumns - used);
    }
  }

  /// Of one expert after the other, since they share what is added to.
  template <Executor X>
  void add_gradients(const RowBatch<Real>& batch, const RowGradients<Real>& rows, Gradients& gradients,
                     const BackwardScratch& scratch, X& executor) const {
    for (Index e = 0; e < experts(); ++e) {
      Index offsets[2] = {0, 0};
      Index& kept = offsets[1];
      for (Index s = batch.offsets[e]; s < batch.offsets[e + 1]; ++s) {
        if (rows.freezes(s)) continue;
        scratch.kept_x[kept] = batch.row[s];
        scratch.kept_dpre[kept] = scratch.dpre_row[s];
        scratch.kept_dh[kept] = scratch.dh + s * parameters_.hidden_stride();
        scratch.kept_dy[kept] = rows.dy[s];
        ++kept;
      }
      const Index positions = panels_of(e) * kPanel<Real>;
      grouped_outer<native_arch>(
          scratch.kept_x, width(), scratch.kept_dpre, positions, offsets, Index{1},
          [&](Index) noexcept { return gradients.first(0).first(width(), panels_of(e)); }, scratch.tasks,
          scratch.panels, executor);
      grouped_outer<native_arch>(
          scratch.kept_dh, hidden_of(e), scratch.kept_dy, width(), offsets, Index{1},
          [&](Index) noexcept {
            const PackedView<Real> all = gradients.second(0);
            return all.first(hidden_of(e), all.panels);
          },
          scratch.tasks, scratch.panels, executor);
      if (!has_bias()) continue;
      for (Index s = batch.offsets[e]; s < batch.offsets[e + 1]; ++s) {
        if (rows.freezes(s)) continue;
        add_row(scratch.dpre_row[s], gradients.first_bias(0), positions);
        axpy_row(rows.weight[s], rows.dy[s], gradients.second_bias(0), width());
      }
    }
  }

  Parameters parameters_;  // of one expert, the widest
  Buffer<Index> width_of_;
  Unit unit_;
};

/// Nested experts z = W2[:, :n_j] act(W1[:n_j] x + b1) + b2.
template <Activation Act, class Real = float>
class NestedMlp : public NestedBank<impl::MlpUnit<Act>, Real> {
  using Base = NestedBank<impl::MlpUnit<Act>, Real>;

 public:
  static constexpr const char* kName = "nested_mlp";
  /// Zero weights. Throws config_error or size_error naming what is out of range.
  explicit NestedMlp(const NestedOptions& options, Act act = Act{}) : Base(options, {std::move(act)}) {}
};

/// Nested experts z = Wd[:, :n_j] h + bd, h = act(Wg[:n_j] x + bg) * (Wu[:n_j] x + bu).
template <class Act, class Real = float>
requires(Activation<Act> || Gate<Act>) class NestedGlu : public NestedBank<impl::GluUnit<Act>, Real> {
  using Base = NestedBank<impl::GluUnit<Act>, Real>;

 public:
  static constexpr const char* kName = "nested_glu";
  /// Zero weights. Throws config_error or size_error naming what is out of range. A gate has no default.
  explicit NestedGlu(const NestedOptions& options) requires Activation<Act> : NestedGlu(options, Act{}) {}
  NestedGlu(const NestedOptions& options, Act act) : Base(options, {std::move(act)}) {}
};

/// Fills a nested bank with the one expert of `dense`, a Mlp or Glu of its widest hidden width and of its
/// kind, hidden units by descending `importance` [F] (the lower unit first where equal; empty: as they are).
/// Flextron's importance is the unit's mean magnitude over calibration rows. The widest expert is then the
/// dense layer, its sum over hidden units in the new order. Throws config_error for a bank of several experts
/// or of another shape, shape_error for another number of importances, numeric_error for NaN among them.
template <class Dense, class Nested>
requires DenseStorage<typename Dense::StorageType> &&
    std::same_as<typename Dense::Parameters, typename Nested::Parameters>  //
void nest_expert(const Dense& dense, std::span<const double> importance, Nested& nested) {
  using Real = typename Nested::Real;
  require_range("experts of the dense bank", dense.experts(), 1, 1);
  require_range("width of the nested bank", nested.width(), dense.width(), dense.width());
  require_range("widest hidden width of the nested bank", nested.hidden(), dense.hidden(), dense.hidden());
  if (dense.has_bias() != nested.has_bias()) {
    fail<config_error>("nested bank: expected biases in both banks or in none, got them in ",
                       dense.has_bias() ? "the dense one" : "the nested one");
  }
  if (!importance.empty()) {
    require_extent("importance", "hidden units", dense.hidden(), static_cast<Index>(importance.size()));
  }
  for (const double v : importance) {
    if (v != v) fail<numeric_error>("importance: expected numbers, got NaN");
  }
  Buffer<Index> order(dense.hidden());
  for (Index j = 0; j < order.size(); ++j) order[j] = j;
  if (!importance.empty()) {
    std::sort(order.begin(), order.end(), [&](Index a, Index b) noexcept {
      const double of_a = importance[static_cast<std::size_t>(a)],
                   of_b = importance[static_cast<std::size_t>(b)];
      return of_a != of_b ? of_a > of_b : a < b;
    });
  }
  ParameterView<const Real> from[2 * (Nested::Parameters::kParts + 1)];
  Index kinds = 0;
  visit_parameters(dense, [&](const auto& p) { from[kinds++] = p.value; });
  const Index second = kinds - (dense.has_bias() ? 2 : 1);  // the last matrix; its bias has no hidden unit
  Index at = 0;
  nested.visit_parameters(nullptr, [&](const Parameter<Real>& p) {
    for (Index o = 0; o < p.value.rows; ++o) {
      for (Index i = 0; i < p.value.cols; ++i)
        p.value(o, i) = from[at](at < second ? order[o] : o, at == second ? order[i] : i);
    }
    ++at;
  });
}

MOE_NAMESPACE_END
