// Stage 4/5 experts. In: rows by expert. Out: one result row per slot. Next: moe/combine/weighted_sum.hpp
// What a bank of experts is: all experts of one kind, run at once over every expert's rows.
#pragma once

#include <concepts>
#include <type_traits>

#include "moe/core/check.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/part_traits.hpp"
#include "moe/core/probes.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/plan/route_table.hpp"

MOE_NAMESPACE_BEGIN

/// Rows by expert: expert e has rows offsets[e] .. offsets[e + 1]. offsets[0] is 0.
template <class Real>
struct RowBatch {
  const Real* const* row = nullptr;     // [P] D entries each
  const std::int32_t* token = nullptr;  // [P] token of each row
  const Index* offsets = nullptr;       // [E + 1]
  Index experts = 0;
  Index tokens = 0;  // if not 0, tokens lie in [0, tokens) and slots of one token read the same row
  const RowDraws* draws = nullptr;       // of a forward_train that trains: what experts that draw need
  const Probes<Real>* probes = nullptr;  // of all tokens, for a ProbingBank: its slots go on from there
  const ConstMatrixView<Real>* memory = nullptr;  // [T, D] the call's carry, for experts that remember

  Index slots() const noexcept { return experts == 0 ? 0 : offsets[experts]; }
};

/// Where results go. By default row(s) is slot s's own storage [D], which the bank fills; a bank whose result
/// is an existing row or zero may set result[s] to that row or to null instead and leave the storage alone.
template <class Real>
struct RowSink {
  Real* data = nullptr;  // [P, D], rows `stride` apart
  Index stride = 0;
  const Real** result = nullptr;  // [P] preset to row(s)

  Real* row(Index s) const noexcept { return data + s * stride; }
};

/// Throws state_error for a batch of another number of experts: the bank was moved from, or replaced by
/// another.
template <class Real>
void require_experts(Index experts, const RowBatch<Real>& batch) {
  if (experts != batch.experts) {
    fail<state_error>("expert bank: expected a batch of its ", experts,
                      experts == 0 ? " experts (it was moved from), got " : " experts, got ", batch.experts);
  }
}

/// For the backward: what arrived at each slot, and where its gradients go.
template <class Real>
struct RowGradients {
  const Real* const* dy =
      nullptr;                   // [P] the token's dY row [D]; the slot's own gradient is weight[s] * dy[s]
  const Real* weight = nullptr;  // [P]
  Real* dweight = nullptr;       // [P] out: <dy[s], result of s>
  RowSink<Real> dx{};            // out: gradient of the row the slot read
  const bool* frozen = nullptr;  // [P] or null: true: no parameter's gradient has a part of this slot's
  const Probes<Real>* dprobes = nullptr;      // of a batch with probes: gradients of the slots' own added to
  const MatrixView<Real>* dmemory = nullptr;  // [T, D] of a batch with a memory: its gradient, added to

  bool freezes(Index s) const noexcept { return frozen != nullptr && frozen[s]; }
};

/// What else a bank may have: `check_call(in)`, called before the experts run, which throws for what the
/// call lacks (in.require_draws of a bank that draws in training); `measure(arena, pairs, concurrency)`,
/// which takes from a measuring arena what `forward` takes for that many rows and workers (without: nothing).
template <class B>
concept ExpertBank = std::move_constructible<B> &&
    requires(const B& bank, const RowBatch<typename B::Real>& batch, const RowSink<typename B::Real>& sink,
             Arena& arena, SerialExecutor& executor) {
  typename B::Real;
  { B::coupling } -> std::convertible_to<Coupling>;
  { bank.experts() } -> std::convertible_to<Index>;
  { bank.width() } -> std::convertible_to<Index>;
  { bank.forward(batch, sink, arena, executor) } -> std::same_as<void>;
};

/// `Tape` holds what backward needs; `Gradients` mirrors the parameters. A null gradients pointer means
/// frozen. With a Tape that is not empty there is `forward_train(batch, sink, tape, arena, executor)`, with
/// Gradients `make_gradients()` and `visit_parameters(gradients, f)`, which calls f(Parameter<Real>) for
/// every named parameter (storage/parameter.hpp). What else it may have: `measure_backward`, as `measure`;
/// `visit_storage(gradients, f)`, which calls f(name, values, gradients, n) for every flat range (without:
/// every parameter is one); `static constexpr bool kFreezesPairs = true`, which says that it obeys
/// RowGradients::frozen (without: a call with frozen pairs is refused); `on_step_end(stats)`, as a router's.
template <class B>
concept TrainableExpertBank = ExpertBank<B> && std::default_initializable<typename B::Tape> &&
    requires(const B& bank, const RowBatch<typename B::Real>& batch, const RowSink<typename B::Real>& sink,
             const RowGradients<typename B::Real>& rows, typename B::Tape& tape,
             typename B::Gradients* gradients, Arena& arena, SerialExecutor& executor) {
  { bank.backward(batch, tape, rows, gradients, arena, executor) } -> std::same_as<void>;
  requires std::is_empty_v<typename B::Tape> || requires {
    bank.forward_train(batch, sink, tape, arena, executor);
  };
  requires std::is_empty_v<typename B::Gradients> || requires {
    { bank.make_gradients() } -> std::same_as<typename B::Gradients>;
  };
};

/// The rows that a bank is asked about.
template <class Real>
struct ProbeRows {
  ConstMatrixView<Real> x;             // [T, D]
  const std::int32_t* rows = nullptr;  // [count] those that take part, ascending; others may hold anything
  Index count = 0;
  const RowDraws* draws = nullptr;  // as in RowBatch
};

/// A bank whose experts work in two parts: `probe` for every row, then the rest for the slots of a batch that
/// has the probes (RowBatch::probes), which forward and backward go on from. Of rows that are not listed the
/// probe is anything and the response 0; a response is NaN or +inf where the row, or what comes of it, is not
/// finite.
///
/// `carve_probes` chooses the layout. `probe_train` fills the tape beside. `probe_backward` gets the
/// gradients of probes, which the slots have added up and which it may overwrite, and of responses; it adds
/// to dx (which may be absent) and to the gradients (null: frozen), of the listed rows alone.
/// `measure_probe`, `measure_probe_backward`: what they take from the arena.
template <class B>
concept ProbingBank = TrainableExpertBank<B> && std::default_initializable<typename B::ProbeTape> &&
    requires(const B& bank, const ProbeRows<typename B::Real>& rows, const Probes<typename B::Real>& probes,
             const MatrixView<typename B::Real>& dx, typename B::ProbeTape& tape,
             impl::GradientsOf<B>* gradients, Arena& arena, SerialExecutor& executor) {
  { bank.probe_width() } -> std::convertible_to<Index>;
  { bank.carve_probes(arena, Index{}) } -> std::same_as<Probes<typename B::Real>>;
  { bank.measure_probe(arena, Index{}, Index{}) } -> std::same_as<void>;
  { bank.measure_probe_backward(arena, Index{}, Index{}) } -> std::same_as<void>;
  { bank.probe(rows, probes, arena, executor) } -> std::same_as<void>;
  { bank.probe_train(rows, probes, tape, arena, executor) } -> std::same_as<void>;
  { bank.probe_backward(rows, tape, probes, probes, dx, gradients, arena, executor) } -> std::same_as<void>;
};

namespace impl {

/// Columns of a bank's results: `output_width()`, without it those of the rows.
template <class B>
Index output_width_of(const B& bank) noexcept {
  if constexpr (requires { bank.output_width(); }) {
    return bank.output_width();
  } else {
    return bank.width();
  }
}

/// Says that it has experts that read the batch's memory: `static constexpr bool kRemembers = true`. A layer
/// of such a bank hands its y on.
template <class B>
inline constexpr bool kRemembers = false;
template <class B>
requires requires {
  B::kRemembers;
}
inline constexpr bool kRemembers<B> = B::kRemembers;

/// How much of the batch a bank looks at: `coupling`, or in calls that do not train its `inference_coupling`
/// if it has one.
template <class B>
constexpr Coupling bank_coupling(bool training) noexcept {
  if constexpr (requires { B::inference_coupling; }) {
    return training ? B::coupling : B::inference_coupling;
  } else {
    return B::coupling;
  }
}

template <class B>
inline constexpr bool kFreezesPairs = false;
template <class B>
requires requires {
  B::kFreezesPairs;
}
inline constexpr bool kFreezesPairs<B> = B::kFreezesPairs;

/// A bank that keeps nothing on its tape runs in training as it does in inference.
template <class B, class X>
void forward_train_of(const B& bank, const RowBatch<typename B::Real>& batch,
                      const RowSink<typename B::Real>& sink, typename B::Tape& tape, Arena& arena,
                      X& executor) {
  if constexpr (requires { bank.forward_train(batch, sink, tape, arena, executor); }) {
    bank.forward_train(batch, sink, tape, arena, executor);
  } else {
    bank.forward(batch, sink, arena, executor);
  }
}

}  // namespace impl

MOE_NAMESPACE_END
