// Experts that every token visits, outside the routing: y[t] += s(t) * sum over shared experts of f(x[t]),
// after the routed sum. s is 1, or sigmoid(<x[t], w>) (Qwen2-MoE's shared expert gate).
#pragma once

#include <utility>

#include "moe/core/buffer.hpp"
#include "moe/core/executor.hpp"
#include "moe/core/types.hpp"
#include "moe/core/view.hpp"
#include "moe/core/workspace.hpp"
#include "moe/expert/concept.hpp"
#include "moe/kernel/activation.hpp"
#include "moe/kernel/row.hpp"
#include "moe/storage/parameter.hpp"

MOE_NAMESPACE_BEGIN

/// The experts of `B`, all of them for every token; with `gated`, scaled by sigmoid(<x, w>), w = 0 at first.
/// Parameters: "shared_experts." + the bank's names, "shared_expert_gate.weight" [1, D].
template <ExpertBank B>
class SharedExperts {
 public:
  using Real = typename B::Real;
  struct Tape {
    typename B::Tape bank;
    Buffer<std::int32_t> token;  // [A] tokens that take part
    Buffer<Real> gate;           // [A] sigmoid(<x, w>)
  };
  struct Gradients {
    typename B::Gradients bank;
    Buffer<Real> gate;  // [D]
  };

  explicit SharedExperts(B bank, bool gated = false)
      : bank_(std::move(bank)), gate_(gated ? Index{bank_.width()} : Index{0}) {}

  Index width() const noexcept { return bank_.width(); }
  bool gated() const noexcept { return !gate_.empty(); }
  B& bank() noexcept { return bank_; }

  void measure(Arena& arena, Index tokens, Index concurrency) const {
    Scratch{arena, tokens, bank_};
    bank_.measure(arena, tokens * bank_.experts(), concurrency);
  }
  void measure_backward(Arena& arena, Index tokens, Index concurrency) const {
    BackwardScratch{arena, tokens, bank_};
    bank_.measure_backward(arena, tokens * bank_.experts(), concurrency);
  }

  /// y[t] += ... for every t with active[t]; other rows stay.
  template <Executor X>
  void forward(const ConstMatrixView<Real>& x, const bool* active, const MatrixView<Real>& y, Tape* tape,
               Arena& arena, X& executor) const {
    const Scratch scratch(arena, x.rows, bank_);
    Index count = 0;
    for (Index t = 0; t < x.rows; ++t) {
      if (active[t]) scratch.token[count++] = static_cast<std::int32_t>(t);
    }
    const Index experts = bank_.experts();
    list_rows(x, scratch, count);
    const RowBatch<Real> batch{scratch.row, scratch.slot_token, scratch.offsets, experts, x.rows};
    const RowSink<Real> sink{scratch.z, width(), scratch.result};
    if (tape != nullptr) {
      bank_.forward_train(batch, sink, tape->bank, arena, executor);
      tape->token.copy_from(scratch.token, count);
      tape->gate.resize(gated() ? count : 0);
    } else {
      bank_.forward(batch, sink, arena, executor);
    }
    executor.parallel_for(count, [&](Index a, Index) noexcept {
      const Index t = scratch.token[a];
      const Real gate = gate_of(x.row(t));
      if (tape != nullptr && gated()) tape->gate[a] = gate;
      for (Index e = 0; e < experts; ++e) {
        const Real* const z = scratch.result[e * count + a];
        if (z != nullptr) axpy_row(gate, z, y.row(t), y.cols);
      }
    });
  }

  /// dx[t] += ..., if dx is there.
  template <Executor X>
  void backward(const Tape& tape, const ConstMatrixView<Real>& x, const ConstMatrixView<Real>& dy,
                const MatrixView<Real>& dx, Gradients* gradients, Arena& arena, X& executor) const {
    const Index count = tape.token.size(), experts = bank_.experts();
    const BackwardScratch scratch(arena, x.rows, bank_);
    for (Index a = 0; a < count; ++a) scratch.forward.token[a] = tape.token[a];
    list_rows(x, scratch.forward, count);
    for (Index s = 0; s < count * experts; ++s) {
      scratch.dy_row[s] = dy.row(Index{scratch.forward.slot_token[s]});
      scratch.weight[s] = gated() ? tape.gate[s % count] : Real{1};
    }
    const bool wants_dx = bool(dx);
    const RowBatch<Real> batch{scratch.forward.row, scratch.forward.slot_token, scratch.forward.offsets,
                               experts, x.rows};
    const RowSink<Real> sink{wants_dx ? scratch.forward.z : nullptr, width(), scratch.forward.result};
    bank_.backward(batch, tape.bank,
                   RowGradients<Real>{scratch.dy_row, scratch.weight, scratch.dweight, sink},
                   gradients == nullptr ? nullptr : &gradients->bank, arena, executor);
    if (wants_dx) {
      executor.parallel_for(count, [&](Index a, Index) noexcept {
        const Index t = tape.token[a];
        for (Index e = 0; e < experts; ++e) {
          const Real* const row = scratch.forward.result[e * count + a];
          if (row != nullptr) add_row(row, dx.row(t), dx.cols);
        }
      });
    }
    if (gated()) gate_backward(tape, x, dx, gradients, scratch, executor);
  }

  Gradients make_gradients() const { return {bank_.make_gradients(), Buffer<Real>(gate_.size())}; }

  template <class Visitor>
  void visit_parameters(Gradients* gradients, Visitor& f) {
    auto renamed = [&](Parameter<Real> p) {
      const ParameterName name("shared_", p.name);
      p.name = name.c_str();
      f(p);
    };
    bank_.visit_parameters(gradients == nullptr ? nullptr : &gradients->bank, renamed);
    if (!gated()) return;
    const Index d = width();
    f(Parameter<Real>{"shared_expert_gate.weight", gate_view(gate_.data(), d),
                      gate_view(gradients == nullptr ? nullptr : gradients->gate.data(), d)});
  }
  template <class Visitor>
  void visit_packed(Visitor& f) {
    if constexpr (requires { bank_.visit_packed(f); }) {
      bank_.visit_packed([&](const char* name, std::byte* data, Index n) {
        f(ParameterName("shared_", name).c_str(), data, n);
      });
    }
  }
  template <class Visitor>
  void visit_storage(Gradients* gradients, Visitor& f) {
    auto renamed = [&](const char* name, Real* values, Real* g, Index n) {
      f(ParameterName("shared_", name).c_str(), values, g, n);
    };
    bank_.visit_storage(gradients == nullptr ? nullptr : &gradients->bank, renamed);
    if (!gated()) return;
    f("shared_expert_gate.weight", gate_.data(), gradients == nullptr ? nullptr : gradients->gate.data(),
      gate_.size());
  }

 private:
  struct Scratch {
    std::int32_t* token;       // [T] tokens that take part
    std::int32_t* slot_token;  // [T * Es]
    Index* offsets;            // [Es + 1]
    const Real** row;          // [T * Es]
    const Real** result;       // [T * Es]
    Real* z;                   // [T * Es, D]
    Scratch(Arena& arena, Index tokens, const B& bank)
        : token(arena.take<std::int32_t>(tokens)),
          slot_token(arena.take<std::int32_t>(tokens * bank.experts())),
          offsets(arena.take<Index>(bank.experts() + 1)),
          row(arena.take<const Real*>(tokens * bank.experts())),
          result(arena.take<const Real*>(tokens * bank.experts())),
          z(arena.take<Real>(
              checked_product("shared results", tokens, Index{bank.experts()}, Index{bank.width()}))) {}
  };
  struct BackwardScratch {
    Scratch forward;
    const Real** dy_row;  // [T * Es]
    Real* weight;         // [T * Es]
    Real* dweight;        // [T * Es]
    BackwardScratch(Arena& arena, Index tokens, const B& bank)
        : forward(arena, tokens, bank),
          dy_row(arena.take<const Real*>(tokens * bank.experts())),
          weight(arena.take<Real>(tokens * bank.experts())),
          dweight(arena.take<Real>(tokens * bank.experts())) {}
  };

  /// Every expert gets every active token: slot e * count + a.
  void list_rows(const ConstMatrixView<Real>& x, const Scratch& scratch, Index count) const noexcept {
    for (Index e = 0; e <= bank_.experts(); ++e) scratch.offsets[e] = e * count;
    for (Index s = 0; s < count * bank_.experts(); ++s) {
      scratch.slot_token[s] = scratch.token[s % count];
      scratch.row[s] = x.row(Index{scratch.slot_token[s]});
      scratch.result[s] = scratch.z + s * width();
    }
  }

  static ParameterView<Real> gate_view(Real* data, Index width) noexcept {
    return {.data = data, .rows = 1, .cols = width, .group = 1, .group_stride = width, .in_stride = 1};
  }

  Real gate_of(const Real* x) const noexcept {
    return gated() ? Sigmoid{}.value(dot(x, gate_.data(), width())) : Real{1};
  }

  /// y += g * z: dg = sum of the experts' dweight, and sigmoid' = g (1 - g). Tokens in ascending order.
  template <Executor X>
  void gate_backward(const Tape& tape, const ConstMatrixView<Real>& x, const MatrixView<Real>& dx,
                     Gradients* gradients, const BackwardScratch& scratch, X&) const noexcept {
    const Index count = tape.token.size();
    for (Index a = 0; a < count; ++a) {
      Real dgate = 0;
      for (Index e = 0; e < bank_.experts(); ++e) dgate += scratch.dweight[e * count + a];
      const Real dlogit = dgate * tape.gate[a] * (1 - tape.gate[a]);
      const Index t = tape.token[a];
      if (gradients != nullptr) axpy_row(dlogit, x.row(t), gradients->gate.data(), width());
      if (dx) axpy_row(dlogit, gate_.data(), dx.row(t), width());
    }
  }

  B bank_;
  Buffer<Real> gate_;  // [D], empty if not gated
};

MOE_NAMESPACE_END
