// Experts that are run whole before anybody has chosen: every expert of a bank on every row, a number for
// each result, and those of the chosen are not computed again. CompeteSMoE 2402.02526, 2505.13380; Finedeep
// 2502.12928.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/moved.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/types.hpp"
#include "moe/core/workspace.hpp"
#include "moe/expert/concept.hpp"
#include "moe/expert/slot_tasks.hpp"
#include "moe/kernel/finite.hpp"
#include "moe/kernel/math.hpp"
#include "moe/kernel/panel.hpp"
#include "moe/kernel/row.hpp"
#include "moe/router/vector_length.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

/// Of a result z [n] of expert e: mean of ln(1 + exp(z_j)).
struct SoftplusResponse {
  static constexpr const char* kName = "softplus";
  template <class Real>
  Real value(Index, const Real* z, Index n) const noexcept {
    double sum = 0;
    for (Index j = 0; j < n; ++j) sum += static_cast<double>(math::softplus(z[j]));
    return static_cast<Real>(sum / static_cast<double>(n));
  }
  /// dz += d * derivative.
  template <class Real>
  void backward(Index, const Real* z, Index n, Real, Real d, Real* dz) const noexcept {
    for (Index j = 0; j < n; ++j) dz[j] += d / static_cast<Real>(n) * math::sigmoid_pair(z[j]).of_x;
  }
};

/// |z|.
struct LengthResponse {
  static constexpr const char* kName = "length";
  template <class Real>
  Real value(Index, const Real* z, Index n) const noexcept {
    return impl::length_of(z, n);
  }
  /// `value`: what value() gave.
  template <class Real>
  void backward(Index, const Real* z, Index n, Real value, Real d, Real* dz) const noexcept {
    axpy_row(d / value, z, dz, n);
  }
};

/// <v_e, z>, trained: parameter "response.weight" [E, n], zero at first, so that all respond alike.
template <class RealType>
class DotResponse {
 public:
  static constexpr const char* kName = "dot";
  using Real = RealType;
  struct Gradients {
    Buffer<Real> weight;         // [E, n]
    impl::Movable<Index> width;  // n
  };

  /// Throws config_error for sizes below 1.
  DotResponse(Index experts, Index width) : width_(width) {
    require_range("experts", experts, 1, (std::numeric_limits<ExpertId>::max)());
    require_range("width", width, 1, INT32_MAX);
    weight_.assign(checked_product("responses", experts, width), Real{0});
  }

  Real value(Index e, const Real* z, Index n) const noexcept { return dot(row(e), z, n); }
  void backward(Index e, const Real*, Index n, Real, Real d, Real* dz) const noexcept {
    axpy_row(d, row(e), dz, n);
  }
  /// Called by expert, rows ascending.
  void add_gradients(Index e, const Real* z, Index n, Real d, Gradients& gradients) const noexcept {
    axpy_row(d, z, gradients.weight.data() + e * width_, n);
  }

  /// Throws config_error for a bank of other sizes.
  void check_bank(Index experts, Index width) const {
    if (width == width_ && experts * width == weight_.size()) return;
    fail<config_error>("responses: expected a bank of width ", Index{width_}, " and ",
                       width_ == 0 ? Index{0} : weight_.size() / width_, " experts, got one of ", width,
                       " and ", experts);
  }

  Gradients make_gradients() const { return {Buffer<Real>(weight_.size()), width_}; }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f) {
    const auto view = [&](Buffer<Real>& of) {
      const Index n = width_;
      return ParameterView<Real>{of.data(), of.size() / n, n, 1, n, 1};
    };
    f(Parameter<Real>{"response.weight", view(weight_),
                      gradients == nullptr ? ParameterView<Real>{} : view(gradients->weight)});
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor&& f) {
    if (gradients != nullptr && gradients->width != width_) {
      fail<shape_error>("gradients of response.weight: expected ", Index{width_},
                        " columns (ask make_gradients()), got ", Index{gradients->width});
    }
    visit_buffer(f, "response.weight", weight_, gradients, &Gradients::weight);
  }

 private:
  const Real* row(Index e) const noexcept { return weight_.data() + e * width_; }

  impl::Movable<Index> width_;
  Buffer<Real> weight_;
};

/// A ProbingBank of any bank: probes are whole results, and what the chosen go on with. Batches without
/// probes are the inner bank's. A result that is not finite, or a row, has the response NaN. The probes of a
/// forward take T x E of the inner bank's slots, those of a backward as many and T x E x D for their dx.
template <TrainableExpertBank Inner, class Response>
class WholeResults {
 public:
  using Real = typename Inner::Real;
  static constexpr Coupling coupling = Inner::coupling;

  struct Tape {
    Index slots = -1;    // of a batch with probes, or
    bool plain = false;  // one without
    impl::TapeOf<Inner> inner;
  };
  struct ProbeTape {
    impl::TapeOf<Inner> inner;
  };
  struct Gradients {
    impl::GradientsOf<Inner> inner;
    impl::GradientsOf<Response> response;
  };

  /// Throws config_error unless the response fits the bank.
  explicit WholeResults(Inner inner, Response response = Response{})
      : inner_(std::move(inner)), response_(std::move(response)) {
    if constexpr (requires { response_.check_bank(experts(), width()); }) {
      response_.check_bank(experts(), width());
    }
  }

  Inner& inner() noexcept { return inner_; }
  const Inner& inner() const noexcept { return inner_; }
  Response& response() noexcept { return response_; }
  const Response& response() const noexcept { return response_; }
  Index experts() const noexcept { return inner_.experts(); }
  Index width() const noexcept { return inner_.width(); }
  /// D.
  Index probe_width() const noexcept { return width(); }

  template <class Visitor>
  void visit_names(const char* role, Visitor& f) const {
    impl::visit_names_of(role, inner_, f);
    impl::visit_names_of("response", response_, f);
  }

  Probes<Real> carve_probes(Arena& arena, Index tokens) const {
    return Probes<Real>::by_expert(arena, tokens, experts(), width(), row_stride<Real>(width()));
  }
  void measure_probe(Arena& arena, Index tokens, Index concurrency) const {
    const Scratch scratch(arena, *this, tokens);
    impl::measure_of(inner_, arena, scratch.slots, concurrency);
  }
  void measure_probe_backward(Arena& arena, Index tokens, Index concurrency) const {
    const BackwardScratch scratch(arena, *this, tokens);
    impl::measure_backward_of(inner_, arena, scratch.asked.slots, concurrency);
  }

  template <Executor X>
  void probe(const ProbeRows<Real>& in, const Probes<Real>& probes, Arena& arena, X& executor) const {
    ask(in, probes, arena, executor, [&](const RowBatch<Real>& batch, const RowSink<Real>& sink) {
      inner_.forward(batch, sink, arena, executor);
    });
  }
  template <Executor X>
  void probe_train(const ProbeRows<Real>& in, const Probes<Real>& probes, ProbeTape& tape, Arena& arena,
                   X& executor) const {
    ask(in, probes, arena, executor, [&](const RowBatch<Real>& batch, const RowSink<Real>& sink) {
      impl::forward_train_of(inner_, batch, sink, tape.inner, arena, executor);
    });
  }
  /// One backward of the inner bank, over all experts of all rows.
  template <Executor X>
  void probe_backward(const ProbeRows<Real>& in, const ProbeTape& tape, const Probes<Real>& probes,
                      const Probes<Real>& dprobes, const MatrixView<Real>& dx, Gradients* gradients,
                      Arena& arena, X& executor) const {
    impl::check_gradients_of(*this, gradients);
    const Index tokens = probes.tokens();
    BackwardScratch scratch(arena, *this, tokens);
    for (Index s = 0; s < scratch.asked.slots; ++s) scratch.frozen[s] = true;
    RowBatch<Real> batch = scratch.asked.batch(in, [](Index) { return true; });
    batch.tokens = 0;  // slots of one token have gradients of their own
    executor.parallel_for(experts(), [&](Index e, Index) noexcept {
      for (Index a = 0; a < in.count; ++a) {
        const Index t = in.rows[a];
        scratch.frozen[e * tokens + t] = false;
        const Real d = dprobes.response(t, e);
        response_.backward(e, probes.of(t, e), width(), probes.response(t, e), d, dprobes.of(t, e));
        if constexpr (kLearns) {
          if (gradients != nullptr)
            response_.add_gradients(e, probes.of(t, e), width(), d, gradients->response);
        }
      }
    });
    for (Index s = 0; s < scratch.asked.slots; ++s) {
      scratch.dy[s] = dprobes.of(s % tokens, s / tokens);
      scratch.weight[s] = 1;
    }
    RowSink<Real> sink{dx ? scratch.dx : nullptr, row_stride<Real>(width()), scratch.asked.result};
    for (Index s = 0; s < scratch.asked.slots; ++s) sink.result[s] = dx ? sink.row(s) : nullptr;
    inner_.backward(batch, tape.inner,
                    RowGradients<Real>{scratch.dy, scratch.weight, scratch.dweight, sink,
                                       impl::kFreezesPairs<Inner> ? scratch.frozen : nullptr},
                    gradients == nullptr ? nullptr : &gradients->inner, arena, executor);
    if (!dx) return;
    executor.parallel_for(in.count, [&](Index a, Index) noexcept {
      const Index t = in.rows[a];
      for (Index e = 0; e < experts(); ++e) {
        const Real* const from = sink.result[e * tokens + t];
        if (from != nullptr) add_row(from, dx.row(t), width());
      }
    });
  }

  template <class Call>
  void check_call(const Call& in) const {
    impl::check_call_of(inner_, in);
  }
  void measure(Arena& arena, Index pairs, Index concurrency) const {
    impl::measure_of(inner_, arena, pairs, concurrency);
  }
  void measure_backward(Arena& arena, Index pairs, Index concurrency) const {
    impl::measure_backward_of(inner_, arena, pairs, concurrency);
  }

  /// With probes, which are the results: no arithmetic.
  template <Executor X>
  void forward(const RowBatch<Real>& batch, const RowSink<Real>& sink, Arena& arena, X& executor) const {
    if (batch.probes == nullptr) return inner_.forward(batch, sink, arena, executor);
    point(batch, sink, executor);
  }
  template <Executor X>
  void forward_train(const RowBatch<Real>& batch, const RowSink<Real>& sink, Tape& tape, Arena& arena,
                     X& executor) const {
    tape.slots = -1;
    tape.plain = batch.probes == nullptr;
    if (tape.plain) return impl::forward_train_of(inner_, batch, sink, tape.inner, arena, executor);
    point(batch, sink, executor);
    tape.slots = batch.slots();
  }
  /// With probes: weight * dy goes to them, and there is no dx. Throws state_error for the tape of another
  /// batch, shape_error for gradients of another bank.
  template <Executor X>
  void backward(const RowBatch<Real>& batch, const Tape& tape, const RowGradients<Real>& rows,
                Gradients* gradients, Arena& arena, X& executor) const {
    if (tape.plain != (batch.probes == nullptr) || (!tape.plain && tape.slots != batch.slots())) {
      fail<state_error>("expert tape: expected the tape of a batch of ", batch.slots(), " rows ",
                        batch.probes == nullptr ? "without" : "with", " probes, got another one's");
    }
    impl::check_gradients_of(*this, gradients);
    if (tape.plain) {
      inner_.backward(batch, tape.inner, rows, gradients == nullptr ? nullptr : &gradients->inner, arena,
                      executor);
      return;
    }
    for_each_slot(batch, executor, [&](Index e, Index s) noexcept {
      const Index t = batch.token[s];
      rows.dweight[s] = dot(rows.dy[s], batch.probes->of(t, e), width());
      if (rows.dprobes != nullptr) axpy_row(rows.weight[s], rows.dy[s], rows.dprobes->of(t, e), width());
      if (rows.dx.data != nullptr) rows.dx.result[s] = nullptr;
    });
  }

  Gradients make_gradients() const {
    return {impl::make_gradients_of(inner_), impl::make_gradients_of(response_)};
  }
  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor&& f) {
    impl::visit_parameters_of(inner_, gradients == nullptr ? nullptr : &gradients->inner, f);
    impl::visit_parameters_of(response_, gradients == nullptr ? nullptr : &gradients->response, f);
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor&& f) {
    impl::visit_storage_of(inner_, gradients == nullptr ? nullptr : &gradients->inner, f);
    impl::visit_storage_of(response_, gradients == nullptr ? nullptr : &gradients->response, f);
  }
  /// f(name, std::byte* data, bytes) for weights of a block storage.
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
  void on_step_end(const RouteStats& stats) { impl::on_step_end_of(inner_, stats); }

 private:
  static constexpr bool kLearns = !std::is_empty_v<impl::GradientsOf<Response>>;

  /// Every row at every expert: slot e T + t.
  struct Scratch {
    Index slots, experts, width;
    const Real** row;     // [E T]
    std::int32_t* token;  // [E T]
    const Real** result;  // [E T]
    Index* offsets;       // [E + 1]
    Real* zero;           // [D] what rows that take no part read
    Scratch(Arena& arena, const WholeResults& bank, Index tokens)
        : slots(checked_product("experts x rows", bank.experts(), tokens)),
          experts(bank.experts()),
          width(bank.width()),
          row(arena.take<const Real*>(slots)),
          token(arena.take<std::int32_t>(slots)),
          result(arena.take<const Real*>(slots)),
          offsets(arena.take<Index>(experts + 1)),
          zero(arena.take<Real>(width)) {}
    /// `reads(t)`: whether a listed row is read.
    template <class Reads>
    RowBatch<Real> batch(const ProbeRows<Real>& in, const Reads& reads) const noexcept {
      const Index tokens = in.x.rows;
      fill_row(Real{0}, zero, width);
      for (Index e = 0; e <= experts; ++e) offsets[e] = e * tokens;
      for (Index t = 0; t < tokens; ++t) row[t] = zero;
      for (Index a = 0; a < in.count; ++a) {
        if (reads(in.rows[a])) row[in.rows[a]] = in.x.row(Index{in.rows[a]});
      }
      for (Index s = 0; s < slots; ++s) {
        row[s] = row[s % tokens];
        token[s] = static_cast<std::int32_t>(s % tokens);
      }
      RowBatch<Real> all{row, token, offsets, experts, tokens};
      all.draws = in.draws;
      return all;
    }
  };
  struct BackwardScratch {
    Scratch asked;
    const Real** dy;  // [E T]
    Real* weight;     // [E T] 1
    Real* dweight;    // [E T] not used
    bool* frozen;     // [E T]
    Real* dx;         // [E T, D]
    BackwardScratch(Arena& arena, const WholeResults& bank, Index tokens)
        : asked(arena, bank, tokens),
          dy(arena.take<const Real*>(asked.slots)),
          weight(arena.take<Real>(asked.slots)),
          dweight(arena.take<Real>(asked.slots)),
          frozen(arena.take<bool>(asked.slots)),
          dx(arena.take<Real>(
              checked_product("expert gradients", asked.slots, row_stride<Real>(bank.width())))) {}
  };

  /// `run(batch, sink)` runs the inner bank.
  template <Executor X, class Run>
  void ask(const ProbeRows<Real>& in, const Probes<Real>& probes, Arena& arena, X& executor,
           const Run& run) const {
    const Index tokens = probes.tokens();
    const Scratch scratch(arena, *this, tokens);
    const RowBatch<Real> batch =
        scratch.batch(in, [&](Index t) { return all_finite(in.x.row(t), in.x.cols); });
    const RowSink<Real> sink{probes.data, probes.token_stride, scratch.result};
    for (Index s = 0; s < scratch.slots; ++s) sink.result[s] = sink.row(s);
    run(batch, sink);
    executor.parallel_for(tokens, [&](Index t, Index) noexcept {
      for (Index e = 0; e < experts(); ++e) {
        const Real* const result = sink.result[e * tokens + t];
        Real* const own = probes.of(t, e);
        if (result == nullptr) fill_row(Real{0}, own, width());
        if (result != nullptr && result != own) copy_row(result, own, width());
        probes.response(t, e) = 0;
      }
    });
    executor.parallel_for(in.count, [&](Index a, Index) noexcept {
      const Index t = in.rows[a];
      const bool reads = batch.row[t] != scratch.zero;
      for (Index e = 0; e < experts(); ++e) {
        const Real* const z = probes.of(t, e);
        probes.response(t, e) = reads && all_finite(z, width()) ? response_.value(e, z, width())
                                                                : std::numeric_limits<Real>::quiet_NaN();
      }
    });
  }

  template <Executor X>
  static void point(const RowBatch<Real>& batch, const RowSink<Real>& sink, X& executor) noexcept {
    for_each_slot(batch, executor,
                  [&](Index e, Index s) noexcept { sink.result[s] = batch.probes->of(batch.token[s], e); });
  }

  Inner inner_;
  Response response_;
};

/// The inner bank's, with the same response.
template <class To, class Inner, class Response>
auto quantise(const WholeResults<Inner, Response>& bank) {
  return WholeResults(quantise<To>(bank.inner()), bank.response());
}

MOE_NAMESPACE_END
