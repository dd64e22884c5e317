// Experts of Autonomy of Experts, 2501.13074 eq. 5: the gate of a gated expert is factorised, and its first
// factor is the probe by whose length experts are chosen.
//   c_e = Wc_e x   response |c_e|   f_e(x) = Wd_e (act(Wg_e c_e) * (Wu_e x))
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/random.hpp"
#include "moe/expert/concept.hpp"
#include "moe/expert/slot_tasks.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/kernel/row.hpp"
#include "moe/product/grouped.hpp"
#include "moe/product/grouped_outer.hpp"
#include "moe/product/grouped_transposed.hpp"
#include "moe/product/projection.hpp"
#include "moe/router/vector_length.hpp"
#include "moe/storage/packed_matrix.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

struct ProbingGluOptions {
  Index experts = 0;  // E >= 1
  Index width = 0;    // D >= 1
  Index probe = 0;    // r >= 1; the paper's D / 3 keeps the number of parameters
  Index hidden = 0;   // F >= 1

  friend bool operator==(const ProbingGluOptions&, const ProbingGluOptions&) = default;
};

/// A ProbingBank, and that alone: batches without probes are refused. Parameters "experts.probe.weight"
/// [E r, D], expert after expert, and by expert "experts.<e>.gate_proj.weight" [F, r], "up_proj" [F, D],
/// "down_proj" [D, F]. Probes lie by token, so that asking all experts is one product.
template <class Act, class RealType = float>
requires(Activation<Act> || Gate<Act>) class ProbingGlu {
 public:
  static constexpr const char* kName = "probing_glu";
  using Real = RealType;
  using Options = ProbingGluOptions;
  static constexpr Coupling coupling = Coupling::row_independent;

  struct Tape {
    Index slots = -1;
    Buffer<Real> gate;  // [P, F] in front of the gate
    Buffer<Real> up;    // [P, F]
  };
  struct ProbeTape {};  // the probes are all
  struct Gradients {
    typename Projection<Real>::Gradients probe;
    Buffer<Real> gate, up, down;  // packed as the weights
    impl::Movable<Options> shape{};
  };

  /// Zero weights. Throws config_error or size_error naming what is out of range.
  explicit ProbingGlu(const Options& options, Act act = Act{})
      : shape_(checked(options)),
        act_(std::move(act)),
        probe_(options.width, options.experts * options.probe, false) {
    gate_.assign(checked_product("gates of the experts", experts(), gate_size()), Real{0});
    up_.assign(checked_product("up projections of the experts", experts(), up_size()), Real{0});
    down_.assign(checked_product("down projections of the experts", experts(), down_size()), Real{0});
  }

  Index experts() const noexcept { return shape_->experts; }
  Index width() const noexcept { return shape_->width; }
  Index hidden() const noexcept { return shape_->hidden; }
  /// r.
  Index probe_width() const noexcept { return shape_->probe; }
  Index bytes() const noexcept {
    return (experts() * probe_width() * width() + gate_.size() + up_.size() + down_.size()) *
           Index{sizeof(Real)};
  }

  /// Matrices uniform in +-1 / sqrt(inputs).
  void initialise(std::uint64_t seed) {
    probe_.initialise(seed, kFirstStep);
    auto draw = [&](Index e, Index matrix, const ParameterView<Real>& view) {
      const KeyedRandom random(seed, static_cast<std::uint64_t>(kFirstStep + matrix), DrawStream::initialise);
      const double bound = 1 / std::sqrt(static_cast<double>(view.cols));
      for (Index i = 0; i < view.size(); ++i) {
        const double u = random.uniform(static_cast<std::uint64_t>(i), static_cast<std::uint32_t>(e));
        view(i / view.cols, i % view.cols) = static_cast<Real>(bound * (2 * u - 1));
      }
    };
    for (Index e = 0; e < experts(); ++e) {
      draw(e, 1, gate_view(gate_.data(), e));
      draw(e, 2, up_view(up_.data(), e));
      draw(e, 3, down_view(down_.data(), e));
    }
  }

  Probes<Real> carve_probes(Arena& arena, Index tokens) const {
    const Index row = checked_product("probes", experts(), probe_width());
    return Probes<Real>::by_token(arena, tokens, experts(), probe_width(), row_stride<Real>(row));
  }
  void measure_probe(Arena& arena, Index tokens, Index) const { probe_.measure(arena, tokens); }
  void measure_probe_backward(Arena& arena, Index tokens, Index concurrency) const {
    probe_.measure_backward(arena, tokens, concurrency);
  }

  template <Executor X>
  void probe(const ProbeRows<Real>& in, const Probes<Real>& probes, Arena& arena, X& executor) const {
    probe_.forward(in.x, matrix_of(probes), arena, executor);
    for (Index t = 0; t < probes.tokens(); ++t) fill_row(Real{0}, probes.response.row(t), experts());
    executor.parallel_for(in.count, [&](Index a, Index) noexcept {
      const Index t = in.rows[a];
      for (Index e = 0; e < experts(); ++e) {
        probes.response(t, e) = impl::length_of(probes.of(t, e), probe_width());
      }
    });
  }
  template <Executor X>
  void probe_train(const ProbeRows<Real>& in, const Probes<Real>& probes, ProbeTape&, Arena& arena,
                   X& executor) const {
    probe(in, probes, arena, executor);
  }
  /// d |c| = c / |c|. Throws shape_error for gradients of another bank.
  template <Executor X>
  void probe_backward(const ProbeRows<Real>& in, const ProbeTape&, const Probes<Real>& probes,
                      const Probes<Real>& dprobes, const MatrixView<Real>& dx, Gradients* gradients,
                      Arena& arena, X& executor) const {
    impl::check_gradients_of(*this, gradients);
    executor.parallel_for(in.count, [&](Index a, Index) noexcept {
      const Index t = in.rows[a];
      for (Index e = 0; e < experts(); ++e) {
        axpy_row(dprobes.response(t, e) / probes.response(t, e), probes.of(t, e), dprobes.of(t, e),
                 probe_width());
      }
    });
    probe_.backward_rows(in.rows, in.count, in.x, matrix_of(dprobes), dx,
                         gradients == nullptr ? nullptr : &gradients->probe, arena, executor);
  }

  void measure(Arena& arena, Index pairs, Index) const { Scratch{arena, pairs, *this, false}; }
  void measure_backward(Arena& arena, Index pairs, Index concurrency) const {
    BackwardScratch{arena, pairs, *this, concurrency};
  }
  /// Throws config_error for a call without probes.
  template <class Call>
  void check_call(const Call& in) const {
    if (in.probes) return;
    fail<config_error>(
        "experts that are chosen by their probes: expected a call of a ProbingLayer, got one without probes");
  }

  /// Throws state_error for a batch without probes, or of another number of experts.
  template <Executor X>
  void forward(const RowBatch<Real>& batch, const RowSink<Real>& sink, Arena& arena, X& executor) const {
    run(batch, sink, nullptr, arena, executor);
  }
  template <Executor X>
  void forward_train(const RowBatch<Real>& batch, const RowSink<Real>& sink, Tape& tape, Arena& arena,
                     X& executor) const {
    run(batch, sink, &tape, arena, executor);
  }

  /// With dz = weight * dy: dweight = <dy, z>, dx without what goes through the probe (unless dx.data is
  /// null), that to dprobes, and gradients (unless null) added to. Throws as forward, state_error for the
  /// tape of another batch, shape_error for gradients of another bank.
  template <Executor X>
  void backward(const RowBatch<Real>& batch, const Tape& tape, const RowGradients<Real>& rows,
                Gradients* gradients, Arena& arena, X& executor) const {
    require_probes(batch);
    const Index slots = batch.slots(), stride = row_stride<Real>(hidden());
    if (tape.slots != slots || tape.gate.size() != slots * stride) {
      fail<state_error>("expert tape: expected the tape of a batch of ", slots,
                        " rows of this bank, got one of ", tape.slots);
    }
    impl::check_gradients_of(*this, gradients);
    const BackwardScratch scratch(arena, slots, *this, executor.concurrency());
    transposed(rows.dy, width(), batch, down_of(down_), hidden(), scratch, executor,
               [&](Index, Index s, Index column, const Real* from, Index count) noexcept {
                 copy_row(from, scratch.dh + s * stride + column, count);
               });
    for_each_slot(batch, executor, [&](Index e, Index s) noexcept {
      Real *const dh = scratch.dh + s * stride, *const dgate = scratch.dgate + s * stride;
      Real *const dup = scratch.dup + s * stride, *const h = scratch.h + s * stride;
      const Real *const gate = tape.gate.data() + s * stride, *const up = tape.up.data() + s * stride;
      gated_row(act_, gate, up, h, hidden());
      rows.dweight[s] = dot(dh, h, hidden());
      scale_row(rows.weight[s], dh, dh, hidden());
      scale_row(rows.weight[s], h, h, hidden());
      gated_backward_row(act_, gate, up, dh, dgate, dup, hidden());
      scratch.probe_row[s] = batch.probes->of(batch.token[s], e);
      scratch.dgate_row[s] = dgate;
      scratch.dup_row[s] = dup;
      scratch.h_row[s] = h;
    });
    if (gradients != nullptr) {
      const auto outer = [&](const Real* const* left, Index left_width, const Real* const* right,
                             Index right_width, const PackedMatrices<Real>& to) {
        grouped_outer<native_arch>(left, left_width, right, right_width, batch.offsets, experts(), to,
                                   scratch.tasks, scratch.panels, executor);
      };
      outer(scratch.probe_row, probe_width(), scratch.dgate_row, hidden(), gate_of(gradients->gate));
      outer(batch.row, width(), scratch.dup_row, hidden(), up_of(gradients->up));
      outer(scratch.h_row, hidden(), rows.dy, width(), down_of(gradients->down));
    }
    if (rows.dprobes != nullptr) {
      transposed(scratch.dgate_row, hidden(), batch, gate_of(gate_), probe_width(), scratch, executor,
                 [&](Index e, Index s, Index column, const Real* from, Index count) noexcept {
                   add_row(from, rows.dprobes->of(batch.token[s], e) + column, count);
                 });
    }
    if (rows.dx.data == nullptr) return;
    transposed(scratch.dup_row, hidden(), batch, up_of(up_), width(), scratch, executor,
               [&](Index, Index s, Index column, const Real* from, Index count) noexcept {
                 copy_row(from, rows.dx.row(s) + column, count);
               });
  }

  Gradients make_gradients() const {
    return {probe_.make_gradients(), Buffer<Real>(gate_.size()), Buffer<Real>(up_.size()),
            Buffer<Real>(down_.size()), shape_};
  }
  /// Ids in names from first_id on.
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f, Index first_id = 0) {
    impl::check_gradients_of(*this, gradients);
    probe_.visit_parameters("experts.probe", gradients == nullptr ? nullptr : &gradients->probe, f);
    const auto show = [&](Index e, const char* matrix, Buffer<Real>& values, Buffer<Real> Gradients::*member,
                          auto view_of) {
      f(Parameter<Real>{
          ParameterName("experts.", first_id + e, ".", matrix, ".weight").c_str(), view_of(values.data(), e),
          gradients == nullptr ? ParameterView<Real>{} : view_of((gradients->*member).data(), e)});
    };
    for (Index e = 0; e < experts(); ++e) {
      show(e, "gate_proj", gate_, &Gradients::gate, [&](Real* p, Index g) { return gate_view(p, g); });
      show(e, "up_proj", up_, &Gradients::up, [&](Real* p, Index g) { return up_view(p, g); });
      show(e, "down_proj", down_, &Gradients::down, [&](Real* p, Index g) { return down_view(p, g); });
    }
  }
  /// Throws shape_error for gradients of another bank.
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor&& f) {
    if (gradients != nullptr && !(gradients->shape.get() == shape_.get())) {
      const Options &want = shape_, &got = gradients->shape;
      fail<shape_error>("gradients of the experts: expected those of ", want.experts, " experts ", want.width,
                        " x ", want.probe, " x ", want.hidden, " (ask make_gradients()), got ", got.experts,
                        " experts ", got.width, " x ", got.probe, " x ", got.hidden);
    }
    probe_.visit_storage("experts.probe", gradients == nullptr ? nullptr : &gradients->probe, f);
    visit_buffer(f, "experts.gate", gate_, gradients, &Gradients::gate);
    visit_buffer(f, "experts.up", up_, gradients, &Gradients::up);
    visit_buffer(f, "experts.down", down_, gradients, &Gradients::down);
  }

 private:
  static constexpr Index kFirstStep = 768;  // of draws: those of other banks are below

  struct Scratch {
    const Real** probe_row;  // [P]
    const Real** h_row;      // [P]
    Index* tasks;
    Real* h;     // [P, F]
    Real* gate;  // [P, F], unless on the tape
    Real* up;    // [P, F], unless on the tape
    Scratch(Arena& arena, Index slots, const ProbingGlu& bank, bool taped)
        : probe_row(arena.take<const Real*>(slots)),
          h_row(arena.take<const Real*>(slots)),
          tasks(arena.take<Index>(task_list_size(bank.experts()))) {
      const Index size = checked_product("hidden", slots, row_stride<Real>(bank.hidden()));
      h = arena.take<Real>(size);
      gate = taped ? nullptr : arena.take<Real>(size);
      up = taped ? nullptr : arena.take<Real>(size);
    }
  };
  struct BackwardScratch {
    const Real **probe_row, **dgate_row, **dup_row, **h_row;  // [P]
    Index* tasks;
    Real *dh, *dgate, *dup, *h;  // [P, F]
    Real* panels;                // [concurrency * grouped_scratch]
    BackwardScratch(Arena& arena, Index slots, const ProbingGlu& bank, Index concurrency) {
      for (const Real*** rows : {&probe_row, &dgate_row, &dup_row, &h_row})
        *rows = arena.take<const Real*>(slots);
      tasks = arena.take<Index>(task_list_size(bank.experts()));
      const Index size = checked_product("hidden gradients", slots, row_stride<Real>(bank.hidden()));
      for (Real** values : {&dh, &dgate, &dup, &h}) *values = arena.take<Real>(size);
      panels = arena.take<Real>(checked_product("panels", concurrency, grouped_scratch<Real>()));
    }
  };

  static const Options& checked(const Options& options) {
    require_range("experts", options.experts, 1, (std::numeric_limits<ExpertId>::max)());
    require_range("width", options.width, 1, INT32_MAX);
    require_range("probe", options.probe, 1, INT32_MAX);
    require_range("hidden", options.hidden, 1, INT32_MAX);
    require_range("experts x probe", options.experts * options.probe, 1, INT32_MAX);
    return options;
  }

  // Packed matrices: W of y = W x as [inputs][panels of outputs].
  static Index packed(Index out, Index in) noexcept { return packed_size<Real>(in, plain_panels<Real>(out)); }
  static ParameterView<Real> view(Real* data, Index e, Index out, Index in) noexcept {
    if (data == nullptr) return {};
    return {data + e * packed(out, in), out, in, kPanel<Real>, in * kPanel<Real>, kPanel<Real>};
  }
  template <class Numbers>
  static auto matrices(Numbers& numbers, Index out, Index in) noexcept {
    using T = std::remove_pointer_t<decltype(numbers.data())>;
    return PackedMatrices<T>{numbers.data(), packed(out, in), in, plain_panels<Real>(out)};
  }
  Index gate_size() const noexcept { return packed(hidden(), probe_width()); }
  Index up_size() const noexcept { return packed(hidden(), width()); }
  Index down_size() const noexcept { return packed(width(), hidden()); }
  ParameterView<Real> gate_view(Real* p, Index e) const noexcept {
    return view(p, e, hidden(), probe_width());
  }
  ParameterView<Real> up_view(Real* p, Index e) const noexcept { return view(p, e, hidden(), width()); }
  ParameterView<Real> down_view(Real* p, Index e) const noexcept { return view(p, e, width(), hidden()); }
  template <class Numbers>
  auto gate_of(Numbers& numbers) const noexcept {
    return matrices(numbers, hidden(), probe_width());
  }
  template <class Numbers>
  auto up_of(Numbers& numbers) const noexcept {
    return matrices(numbers, hidden(), width());
  }
  template <class Numbers>
  auto down_of(Numbers& numbers) const noexcept {
    return matrices(numbers, width(), hidden());
  }

  /// [T, E r].
  static MatrixView<Real> matrix_of(const Probes<Real>& probes) noexcept {
    return MatrixView<Real>(probes.data, probes.tokens(), probes.experts() * probes.width,
                            probes.token_stride);
  }

  void require_probes(const RowBatch<Real>& batch) const {
    require_experts(experts(), batch);
    if (batch.probes == nullptr || batch.probes->width != probe_width()) {
      fail<state_error>("expert bank: expected a batch with probes of ", probe_width(), " numbers, got one ",
                        batch.probes == nullptr ? "without" : "with those of another bank");
    }
  }

  template <Executor X>
  void run(const RowBatch<Real>& batch, const RowSink<Real>& sink, Tape* tape, Arena& arena,
           X& executor) const {
    require_probes(batch);
    const Index slots = batch.slots(), stride = row_stride<Real>(hidden());
    const Scratch scratch(arena, slots, *this, tape != nullptr);
    Real *gate = scratch.gate, *up = scratch.up;
    if (tape != nullptr) {
      tape->slots = -1;  // in case a resize throws
      gate = tape->gate.resize(checked_product("tape", slots, stride));
      up = tape->up.resize(slots * stride);
      tape->slots = slots;
    }
    for_each_slot(batch, executor, [&](Index e, Index s) noexcept {
      scratch.probe_row[s] = batch.probes->of(batch.token[s], e);
      scratch.h_row[s] = scratch.h + s * stride;
    });
    product(scratch.probe_row, batch, gate_of(gate_), hidden(), gate, stride, scratch, executor);
    product(batch.row, batch, up_of(up_), hidden(), up, stride, scratch, executor);
    for_each_slot(batch, executor, [&](Index, Index s) noexcept {
      gated_row(act_, gate + s * stride, up + s * stride, scratch.h + s * stride, hidden());
    });
    product(scratch.h_row, batch, down_of(down_), width(), sink.data, sink.stride, scratch, executor);
  }

  /// to [P, columns] = rows times the expert's matrix.
  template <Executor X>
  static void product(const Real* const* rows, const RowBatch<Real>& batch,
                      const PackedMatrices<const Real>& matrix_of, Index columns, Real* to, Index stride,
                      const Scratch& scratch, X& executor) noexcept {
    grouped_gemm<native_arch>(
        rows, batch.offsets, batch.experts, matrix_of,
        [=](Index, Index first, Index m, Index panel, const Real* tile) noexcept {
          const Index column = panel * kPanel<Real>, count = (std::min)(kPanel<Real>, columns - column);
          for (Index i = 0; i < m; ++i)
            copy_row(tile + i * kPanel<Real>, to + (first + i) * stride + column, count);
        },
        scratch.tasks, executor);
  }
  /// take(e, slot, column, numbers, count) of rows [P, depth] times the transposed matrices, of `columns`.
  template <Executor X, class Take>
  static void transposed(const Real* const* rows, Index depth, const RowBatch<Real>& batch,
                         const PackedMatrices<const Real>& matrix_of, Index columns,
                         const BackwardScratch& scratch, X& executor, const Take& take) noexcept {
    grouped_gemm_transposed<native_arch>(
        rows, depth, batch.offsets, batch.experts, matrix_of,
        [&](Index e, Index first, Index m, Index block, const Real* tile) noexcept {
          const Index column = block * kPanel<Real>, count = (std::min)(kPanel<Real>, columns - column);
          for (Index i = 0; i < m; ++i) take(e, first + i, column, tile + i * kPanel<Real>, count);
        },
        scratch.tasks, scratch.panels, executor);
  }

  impl::Movable<Options> shape_;
  Act act_;
  Projection<Real> probe_;
  Buffer<Real> gate_;  // [E] x [r][panels of F]
  Buffer<Real> up_;    // [E] x [D][panels of F]
  Buffer<Real> down_;  // [E] x [F][panels of D]
};

MOE_NAMESPACE_END
